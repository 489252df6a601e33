"""
What a node is to be like: every option's value, and where it comes from.

The command line wins over the file, the file over the defaults. An option that may be
repeated is taken whole from one of them, not put together from several: what you see on
the command line is what you get.
"""

from __future__ import annotations

import difflib
import os
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from py2p_twisted.core.network import PLAINTEXT, SSL, Address, Network
from py2p_twisted.core.ticket import Ticket, agree, fingerprints_of, mismatch
from py2p_twisted.daemon.options import (
    BY_NAME,
    NAMED_SETTINGS,
    OPTIONS,
    Option,
    UnknownName,
    limit,
    limits,
)
from py2p_twisted.errors import BadArgument
from py2p_twisted.net.reports import printable

DEFAULT = "default"
COMMAND_LINE = "command line"
TICKET = "ticket"


class ConfigurationError(ValueError):
    """A value that no node could be started with; the text is one line that says which."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


@dataclass(frozen=True, slots=True)
class Setting:
    """
    One value.

    :ivar source: `DEFAULT`, `COMMAND_LINE`, `TICKET`, or the name of a file.
    """

    value: Any
    source: str


class Configuration(Mapping[str, Any]):
    """
    The values of all options, by name.

    :ivar settings: each with its source.
    """

    def __init__(
        self,
        settings: Mapping[str, Setting],
        limit_sources: Mapping[str, str],
        given: Mapping[str, Any] | None = None,
        fingerprints: Mapping[Address, bytes] | None = None,
    ) -> None:
        """
        :param limit_sources: where each limit that is not at its default was set.
        :param given: what `configure` was given, to be read `again`.
        :param fingerprints: which certificates tickets insist on, by address.
        """
        self.settings = dict(settings)
        self.fingerprints = dict(fingerprints or {})
        self._limit_sources = dict(limit_sources)
        self._given = dict(given or {})
        if "config" in self._given:
            # The process may be in another directory by then.
            self._given["config"] = os.path.abspath(self._given["config"])

    def again(self) -> Configuration:
        """
        What the same command line, and the file that it names as that is now, come to.

        :raises ConfigurationError: as `configure`.
        """
        return configure(self._given)

    def with_values(self, values: Mapping[str, Any]) -> Configuration:
        """The same, but for the values of some options."""
        changed = {
            name: Setting(value, self.settings[name].source) for name, value in values.items()
        }
        return Configuration(
            {**self.settings, **changed}, self._limit_sources, self._given, self.fingerprints
        )

    def __getitem__(self, name: str) -> Any:
        return self.settings[name].value

    def __iter__(self) -> Iterator[str]:
        return iter(self.settings)

    def __len__(self) -> int:
        return len(self.settings)

    @property
    def network(self) -> Network:
        """The network that ``network`` and ``tls`` name together."""
        return Network(self["network"], SSL if self["tls"] else PLAINTEXT)

    @property
    def limits(self) -> dict[str, Any]:
        """What is set besides the defaults of `Settings`, as its arguments."""
        found: dict[str, Any] = dict(self["limit"])
        for option, field in NAMED_SETTINGS.items():
            found[field] = self[option]
        return found

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value and source of everything that can be set, limits included."""
        rows = []
        for option in OPTIONS:
            if option.name in ("check", "limit"):
                continue
            setting = self.settings[option.name]
            for shown in _shown(option, setting.value):
                rows.append((option.name, shown, printable(setting.source)))
        set_here = dict(self["limit"])
        for name, default in limits().items():
            value = set_here.get(name, default)
            source = printable(self._limit_sources.get(name, DEFAULT))
            rows.append((f"limit {name}", str(value).removesuffix(".0"), source))
        return rows

    def shown(self, name: str) -> str:
        """The value of one option, in one line."""
        return ", ".join(_shown(BY_NAME[name], self[name]))

    def report(self) -> str:
        """The same as aligned lines: what ``--check`` prints."""
        rows = self.rows()
        name_width = max(len(name) for name, _, _ in rows)
        value_width = min(40, max(len(value) for _, value, _ in rows))
        return "\n".join(
            f"{name:<{name_width}}  {value:<{value_width}}  {source}"
            for name, value, source in rows
        )


def _shown(option: Option, value: Any) -> list[str]:
    if value is None or value == ():
        return ["-"]
    shown = [option.shown(item) for item in value] if option.repeat else [option.shown(value)]
    return [printable(one) for one in shown]


def configure(given: Mapping[str, Any]) -> Configuration:
    """
    Put together what was given on the command line, the file that it names, and defaults.

    :param given: by option name: text, ``True`` for switches, and lists of texts for
        options that may be repeated.
    :raises ConfigurationError: a value is unusable, or the file is.
    """
    settings = {option.name: Setting(option.default, DEFAULT) for option in OPTIONS}
    sources: dict[str, str] = {}
    path = given.get("config")
    if path is not None:
        for name, value in _from_file(path).items():
            settings[name] = Setting(value, str(path))
            if name == "limit":
                sources |= dict.fromkeys(dict(value), str(path))
    for name, typed in given.items():
        value = _from_command_line(BY_NAME[name], typed)
        if name == "limit":
            # Each limit is a thing of its own.
            sources |= dict.fromkeys(dict(value), COMMAND_LINE)
            value = tuple({**dict(settings[name].value), **dict(value)}.items())
        settings[name] = Setting(value, COMMAND_LINE)
    fingerprints = fingerprints_of(settings["join"].value)
    _use_tickets(settings)
    return Configuration(settings, sources, given, fingerprints)


def _use_tickets(settings: dict[str, Setting]) -> None:
    """Put the addresses of tickets in their place; what nobody has said else they say, too."""
    join, network, tls = (settings[name] for name in ("join", "network", "tls"))
    tickets = [one for one in join.value if isinstance(one, Ticket)]
    try:
        of_tickets = agree(tickets)
    except BadArgument as error:
        raise ConfigurationError(f"join: {error}") from error
    if of_tickets is None:
        return
    if network.source == DEFAULT:
        network = Setting(of_tickets.name, TICKET)
    if tls.source == DEFAULT:
        tls = Setting(of_tickets.encryption == SSL, TICKET)
    wanted = Network(network.value, SSL if tls.value else PLAINTEXT)
    if wanted != of_tickets:
        raise ConfigurationError(f"join: {mismatch(of_tickets, wanted)}")
    addresses: dict[Address, None] = {}
    for one in join.value:
        addresses |= dict.fromkeys(one.addresses if isinstance(one, Ticket) else (one,))
    settings |= {"join": Setting(tuple(addresses), join.source), "network": network, "tls": tls}


def _from_command_line(option: Option, typed: Any) -> Any:
    if option.repeat:
        return tuple(_read(option, item, f"--{option.name}={item}", "--") for item in typed)
    where = f"--{option.name}" if option.is_switch else f"--{option.name}={typed}"
    return _read(option, typed, where, "--")


def _from_file(path: Any) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(f"--config={path}: {error.strerror}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{path}: not TOML for us: it is nested too deeply") from error
    except ValueError as error:
        # No TOML, no UTF-8, or a number that Python does not want to read.
        raise ConfigurationError(f"{path}: not TOML: {error}") from error
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("_", "-")
        if name == "limits":
            found["limit"] = tuple(_limits_from_file(path, value))
            continue
        option = BY_NAME.get(name)
        if option is None or not option.in_file or name == "limit":
            keys = [item.name for item in OPTIONS if item.in_file and item.name != "limit"]
            raise ConfigurationError(f"{path}: {unknown('key', key, [*keys, 'limits'])}")
        if name in found:
            raise ConfigurationError(f"{path}: {name} is given twice")
        where = f"{path}: {key}"
        if option.repeat:
            items = value if isinstance(value, list) else [value]
            found[name] = tuple(_read(option, item, where, "") for item in items)
        else:
            found[name] = _read(option, value, where, "")
    return found


def _limits_from_file(path: Any, table: Any) -> Iterator[tuple[str, int | float]]:
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: limits: expected a table, [limits]")
    found = set()
    for key, value in table.items():
        where = f"{path}: limits: {key}"
        if key.replace("-", "_") in found:
            raise ConfigurationError(f"{where} is given twice")
        found.add(key.replace("-", "_"))
        if not isinstance(value, (bool, int, float)):
            raise ConfigurationError(f"{where}: expected a number")
        try:
            yield limit(f"{key}={value!r}")
        except UnknownName as error:
            text = unknown("limit", key, error.known)
            raise ConfigurationError(f"{path}: {text}") from error
        except ValueError as error:
            raise ConfigurationError(f"{where}: expected {error}") from error


def _read(option: Option, value: Any, where: str, dashes: str) -> Any:
    try:
        return option.read(value)
    except UnknownName as error:
        raise ConfigurationError(f"{where}: {unknown('limit', error.name, error.known)}") from error
    except ValueError as error:
        advice = ""
        if option.example:
            shown = f"{dashes}{option.name}={shlex.quote(option.example)}"
            if not dashes:
                plain = isinstance(option.default, (int, float)) and option.example.isdecimal()
                example = option.example if plain else f'"{option.example}"'
                shown = f"{option.name} = " + (f"[{example}]" if option.repeat else example)
            advice = f", for example {shown}"
        raise ConfigurationError(f"{where}: expected {error}{advice}") from error


def unknown(kind: str, name: str, known: list[str]) -> str:
    """One line about a name that nothing has, with the closest one that something has."""
    close = difflib.get_close_matches(name.replace("_", "-"), known, n=1, cutoff=0.5)
    close = close or difflib.get_close_matches(name.replace("-", "_"), known, n=1, cutoff=0.5)
    if close:
        return f"unknown {kind} {name!r}, did you mean {close[0]!r}?"
    return f"unknown {kind} {name!r}; there are {', '.join(known)}"


__all__ = [
    "COMMAND_LINE",
    "DEFAULT",
    "TICKET",
    "Configuration",
    "ConfigurationError",
    "Setting",
    "configure",
    "unknown",
]
