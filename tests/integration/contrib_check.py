"""
What contrib/ gives to those who run nodes: the systemd unit, its configuration, the container, five of
them.

systemd itself says what it thinks of the unit. There is no container engine here: the steps of the
Containerfile are carried out one by one outside a container, in a folder in place of its root.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from py2p_twisted.daemon import descriptors
from py2p_twisted.daemon.options import DEFAULT_LISTEN, OPTIONS
from tests.integration import installed
from tests.integration.driver import HOST
from tests.integration.installed import (
    PATIENCE,
    PIP_PATIENCE,
    PROJECT,
    Running,
    new_folder,
    scratch,
    wait_until,
)
from tests.integration.namespaces import NamespacesMissing, Sites

CONTRIB = PROJECT / "contrib"
UNIT = CONTRIB / "systemd/py2p.service"
SAMPLE = CONTRIB / "systemd/node.toml"
CONTAINERFILE = CONTRIB / "container/Containerfile"
COMPOSE = CONTRIB / "compose/compose.yaml"

#: Where the unit expects the program, and the container has it.
PROGRAM = "/opt/py2p/bin/twist"

#: Where the container's node can be talked with, what asks it how it is, and what is kept.
SOCKET = "/run/node/control.sock"
HEALTH = ["/opt/py2p/bin/py2p", "status", "--quiet", f"--control={SOCKET}"]
VOLUME = "/var/lib/py2p"

#: What a container file may consist of.
INSTRUCTIONS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip


# --- systemd ---------------------------------------------------------------------


def assignments(unit: str) -> dict[str, list[str]]:
    """What a unit assigns, by key, in order."""
    found: dict[str, list[str]] = {}
    for line in unit.splitlines():
        match = re.match(r"([A-Za-z]+)=(.*)", line)
        if match:
            found.setdefault(match[1], []).append(match[2])
    return found


class UnitTests(SynchronousTestCase):
    """The systemd unit."""

    def setUp(self) -> None:
        self.unit = UNIT.read_text()
        self.set = assignments(self.unit)

    def analyze(self, verb: str, unit: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Have systemd look at a unit, with an executable in it that this machine has."""
        if shutil.which("systemd-analyze") is None:
            raise SkipTest("systemd-analyze is not installed, which Debian has in 'systemd'")
        path = new_folder("unit") / "py2p.service"
        path.write_text(unit.replace(PROGRAM, str(installed.installed().program("twist"))))
        return installed.run(["systemd-analyze", *options, verb, path], path.parent)

    def complaints(self, unit: str) -> list[str]:
        """What systemd has to say against a unit; of others on this machine nothing."""
        done = self.analyze("verify", unit)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "py2p" in line]
        if done.returncode != 0:
            lines.append(f"exit status {done.returncode}")
        return lines

    def test_systemd_accepts_it(self) -> None:
        """systemd knows every word of it, and finds the program where it is said to be."""
        self.assertEqual(self.complaints(self.unit), [])

    def test_systemd_would_notice(self) -> None:
        """The test above can fail: a word that does not exist, or a missing program, is told of."""
        for mistake in (
            self.unit.replace("ProtectSystem=", "ProtectSistem="),
            self.unit.replace(PROGRAM, "/nowhere/twist"),
        ):
            self.assertNotEqual(self.complaints(mistake), [])

    def test_it_gives_the_node_little(self) -> None:
        """systemd's own count of what the service may do says OK, or better."""
        done = self.analyze("security", self.unit, "--offline=yes", "--threshold=20")
        if "offline" in done.stderr:
            raise SkipTest("this systemd-analyze can only look at services that are installed")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout, r"Overall exposure level for py2p\.service: [01]\.\d OK")

    def test_what_it_starts(self) -> None:
        """Its command line is one that the program takes, configuration file included."""
        (command,) = self.set["ExecStart"]
        program, *arguments = shlex.split(command.replace("%E/py2p/node.toml", str(SAMPLE)))
        self.assertEqual(program, PROGRAM)
        done = installed.installed().run("twist", *arguments, "--check")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, rf"(?m)^listen +{DEFAULT_LISTEN} +{SAMPLE}$")

    def test_reload(self) -> None:
        """systemctl reload has it read its configuration again."""
        self.assertEqual(self.set["ExecReload"], ["kill -HUP $MAINPID"])

    def test_as_many_files_as_it_asks_for(self) -> None:
        """The limit is what a node makes use of, no less."""
        self.assertEqual(self.set["LimitNOFILE"], [str(descriptors.MOST)])

    def test_a_mistake_is_not_tried_again(self) -> None:
        """The status with which twist answers a wrong configuration is not started again after."""
        path = new_folder("config") / "node.toml"
        path.write_text("nonsense = 1\n")
        done = installed.installed().run("twist", "py2p", f"--config={path}")
        self.assertEqual(self.set["RestartPreventExitStatus"], [str(done.returncode)])

    def test_it_allows_what_tls_needs(self) -> None:
        """A node with TLS links makes memory writable and executable, see the unit."""
        self.assertNotIn("MemoryDenyWriteExecute", self.set)

    def test_the_words_of_its_installation(self) -> None:
        """The comment at its head names the program and the files that the unit uses."""
        comment = self.unit.partition("[Unit]")[0]
        for path in (
            PROGRAM.removesuffix("twist") + "pip install py2p_twisted",
            "/etc/py2p/node.toml",
        ):
            self.assertIn(path, comment)
        for name in ("node.toml", "py2p.service"):
            self.assertTrue((UNIT.parent / name).is_file())


class SampleTests(SynchronousTestCase):
    """The configuration file that is a beginning."""

    def check(self, text: str) -> dict[str, str]:
        """Have the program read a file; returns the values it says are from there."""
        path = new_folder("config") / "node.toml"
        path.write_text(text)
        done = installed.installed().run("twist", "py2p", f"--config={path}", "--check")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        rows = [re.split("  +", line) for line in done.stdout.splitlines()]
        return {row[0]: row[1] for row in rows if row[2] == str(path)}

    def test_as_it_is(self) -> None:
        """It is accepted, and says where to listen."""
        self.assertEqual(self.check(SAMPLE.read_text()), {"listen": DEFAULT_LISTEN})

    def test_its_examples(self) -> None:
        """Every example in it is accepted too, and there is one for every option."""
        lines = SAMPLE.read_text().splitlines()
        # An example replaces the line that is in force.
        used = [line for line in lines if not line.startswith("listen =")]
        examples = [re.sub(r"^#(?=[a-z\[])", "", line) for line in used]
        found = self.check("\n".join(examples) + "\n")
        wanted = {option.name for option in OPTIONS if option.in_file and option.name != "limit"}
        self.assertEqual(set(found), wanted | {"limit max_outgoing"})


# --- The container ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a container file; its words, its text, the stage that it belongs to."""

    name: str
    text: str
    stage: int

    @property
    def words(self) -> list[str]:
        """Its arguments."""
        if self.text.startswith("["):
            return list(json.loads(self.text))
        return shlex.split(self.text)


def instructions(text: str) -> list[Instruction]:
    """Read a container file."""
    found: list[Instruction] = []
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stage = 0
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, rest = line.strip().partition(" ")
        stage += name == "FROM"
        found.append(Instruction(name, rest.strip(), stage))
    return found


class ContainerTests(SynchronousTestCase):
    """The Containerfile."""

    def setUp(self) -> None:
        self.all = instructions(CONTAINERFILE.read_text())

    def only(self, name: str) -> Instruction:
        """The one instruction of that name in the image that is kept."""
        (found,) = (one for one in self.all if one.name == name and one.stage == self.all[-1].stage)
        return found

    def test_it_can_be_read(self) -> None:
        """Every instruction exists, each stage has a base, and what is copied is there."""
        names = {one.name for one in self.all}
        self.assertEqual(names - set(INSTRUCTIONS), set())
        first = [one.name for one in self.all if one.stage == 0]
        self.assertEqual(set(first), {"ARG"})
        defaults = dict(one.text.split("=") for one in self.all if one.stage == 0)
        stages = []
        for one in self.all:
            if one.name == "FROM":
                base, *named = one.words
                self.assertEqual(base, "${PYTHON}")
                stages.append(named[-1] if named else "")
        self.assertEqual(stages, ["build", ""])
        self.assertRegex(defaults["PYTHON"], r"^python:3\.1[1-3]-slim$")
        for one in self.all:
            if one.name == "COPY":
                *sources, _ = one.words
                if sources[0].startswith("--from="):
                    self.assertIn(sources[0].removeprefix("--from="), stages)
                    continue
                for source in sources:
                    self.assertTrue((PROJECT / source).exists(), source)

    def test_who_runs_what(self) -> None:
        """The node is the first process, of no special user, and is asked to end by SIGTERM."""
        user, _, group = self.only("USER").text.partition(":")
        self.assertGreater(int(user), 0)
        self.assertGreater(int(group), 0)
        self.assertEqual(self.only("ENTRYPOINT").words, [PROGRAM, "py2p", f"--control={SOCKET}"])
        self.assertEqual(self.only("HEALTHCHECK").text.partition(" CMD ")[2], json.dumps(HEALTH))
        # Both folders are the node's own, and so is what is mounted over the second.
        (made,) = (one for one in self.all if one.stage == 2 and one.name == "RUN")
        self.assertEqual(made.words[-2:], [SOCKET.rpartition("/")[0], VOLUME])
        self.assertIn(user, made.words)
        self.assertTrue(self.only("ENTRYPOINT").text.startswith("["))
        self.assertEqual(self.only("CMD").words, [f"--listen={DEFAULT_LISTEN}"])
        self.assertEqual(self.only("EXPOSE").text, DEFAULT_LISTEN.removeprefix("tcp:"))
        self.assertEqual(self.only("STOPSIGNAL").text, "SIGTERM")

    def build(self) -> tuple[Path, dict[str, str]]:
        """
        Carry out the steps of the first stage.

        :return: the folder in place of the root, and what each command has printed, by that.
        """
        tree, _ = installed.copy_of_the_tree("context")
        root = new_folder("root")
        places = {f"/{name}": str(root / name) for name in ("src", "wheels", "opt/py2p")}
        printed = {}
        where = root
        python = installed.builder().program("python").parent
        variables = {"PATH": f"{python}{os.pathsep}{os.environ['PATH']}"}
        for one in self.all:
            if one.stage != 1:
                continue
            if one.name == "WORKDIR":
                where = root / one.text.lstrip("/")
                where.mkdir(parents=True)
            elif one.name == "COPY":
                *sources, target = one.words
                for source in sources:
                    self._copy(tree / source, where / target)
            elif one.name == "RUN":
                command = one.text
                for place, real in places.items():
                    command = re.sub(rf"(?<![\w/]){place}(?=[/\s]|$)", real, command)
                done = installed.run(
                    ["sh", "-e", "-c", command], where, PIP_PATIENCE, variables=variables
                )
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                printed[one.text] = done.stdout
            else:
                self.assertEqual(one.name, "FROM")
        return root, printed

    def _copy(self, source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)

    def test_its_steps(self) -> None:
        """They make an environment with a node that starts, needs to write nothing, and ends."""
        root, printed = self.build()
        self.assertRegex(printed[f"{PROGRAM} --help"], r"\n +py2p +Run one node")
        (copied,) = (
            one for one in self.all if one.name == "COPY" and one.text.startswith("--from=")
        )
        self.assertEqual(copied.words[1:], ["/opt/py2p", "/opt/py2p"])
        program, *arguments = self.only("ENTRYPOINT").words
        places = [argument.replace(SOCKET, str(root / "control.sock")) for argument in arguments]
        command: list[Any] = [root / program.lstrip("/"), *places]

        done = installed.run([*command, *self.only("CMD").words, "--check"], root)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, rf"(?m)^listen +{DEFAULT_LISTEN} +command line$")

        cache = root / "opt/py2p/lib"
        before = {path: path.stat().st_mtime for path in cache.rglob("dropin.cache")}
        self.assertEqual(len(before), 1)
        node = Running([*command, f"--listen=tcp:0:interface={HOST}"])
        self.addCleanup(node.kill)
        wait_until(
            lambda: any(record.get("event") == "listening" for record in node.records),
            "the node to listen",
            details=lambda: node.printed,
        )
        self.assertEqual(node.terminate(PATIENCE), -signal.SIGTERM)
        self.assertEqual(node.err, "")
        self.assertNotIn("plugin cache", node.out)
        after = {path: path.stat().st_mtime for path in cache.rglob("dropin.cache")}
        self.assertEqual(after, before)


# --- Five containers -------------------------------------------------------------

#: Has a process see a hosts file, a run folder and a volume of its own, as a container has them.
_CONTAIN = """
mount --make-rprivate /
mount --bind "$1/hosts" /etc/hosts
mount -t tmpfs tmpfs /run && install -d -m 0700 /run/node
mount --bind "$1/lib" /var/lib
shift
exec "$@"
"""


class ComposeTests(SynchronousTestCase):
    """The compose file. No container engine has read it: what it says is carried out without one."""

    def setUp(self) -> None:
        self.whole = yaml.safe_load(COMPOSE.read_text())
        self.services: dict[str, Any] = self.whole["services"]
        build = instructions(CONTAINERFILE.read_text())
        (entry,) = (one.words for one in build if one.name == "ENTRYPOINT")
        self.entry = entry[1:]
        self.names = list(self.services)

    def test_it_can_be_read(self) -> None:
        """Five services that differ in their command, their volume and what is published, no more."""
        self.assertEqual(self.names, ["one", "two", "three", "four", "five"])
        self.assertEqual(set(self.whole["volumes"]), set(self.names))
        own = ("command", "volumes", "ports")
        for name, service in self.services.items():
            common = {key: value for key, value in service.items() if key not in own}
            self.assertEqual(common, self.whole["x-node"])
            self.assertEqual(service["volumes"], [f"{name}:{VOLUME}"])
            self.assertEqual("ports" in service, name == "one")
            joined = [word for word in service["command"] if word.startswith("--join=")]
            self.assertTrue(joined)
            for word in joined:
                host = word.removeprefix("--join=").removesuffix(":4444")
                self.assertIn(host, set(self.names) - {name})
        self.assertEqual(self.services["one"]["ports"], ["127.0.0.1:8080:8080"])
        common = self.whole["x-node"]
        self.assertEqual(common["healthcheck"]["test"], ["CMD", *HEALTH])
        self.assertEqual(common["ulimits"], {"nofile": descriptors.MOST})
        build = common["build"]
        context = (COMPOSE.parent / build["context"]).resolve()
        self.assertEqual((context, context / build["dockerfile"]), (PROJECT, CONTAINERFILE))

    def test_its_commands(self) -> None:
        """Every option in it is one that the program takes."""
        for name, service in self.services.items():
            done = installed.installed().run("twist", *self.entry, *service["command"], "--check")
            self.assertEqual((done.returncode, done.stderr), (0, ""), name)
            rows = [re.split("  +", line) for line in done.stdout.splitlines()]
            given = {row[0] for row in rows if row[2] == "command line"}
            self.assertTrue({"control", "join", "listen", "state-dir"} <= given, given)

    def test_five_nodes(self) -> None:
        """
        The five commands as they are, each in a network namespace with an address of its own, its own
        /etc/hosts with the services' names, /run and /var/lib: all become healthy, what one says the
        others hear, the page is served, and a node that is made anew is the same participant.
        """
        try:
            sites = Sites(len(self.names))
        except NamespacesMissing as error:
            raise SkipTest(str(error)) from error
        self.addCleanup(sites.close)
        hosts = "127.0.0.1 localhost\n" + "".join(
            f"{address} {name}\n" for address, name in zip(sites.addresses, self.names, strict=True)
        )
        self.folders = {name: new_folder(name) for name in self.names}
        for folder in self.folders.values():
            (folder / "hosts").write_text(hosts)
            (folder / "lib/py2p").mkdir(parents=True, mode=0o700)
        running: dict[str, Running] = {}
        for name, site in zip(self.names, sites.sites, strict=True):
            running[name] = self.start(name, site.enter)
        listener = Running(
            [*self.inside(running["five"]), self.program("py2p"), "listen", "--json",
             f"--control={SOCKET}", "--count=1"]
        )  # fmt: skip
        self.addCleanup(listener.kill)
        for name in self.names:
            self.await_health(running, name)
        for name in self.names:
            wait_until(lambda name=name: self.peers(running[name]) >= 2, f"peers of {name}")
        wait_until(lambda: "through the node at" in listener.err, "the listener")
        first = self.ask(running["one"], "send", f"--control={SOCKET}", "storm", "north")
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertEqual(listener.wait(), 0)
        self.assertEqual(json.loads(listener.out)["packets"], ["storm", "north"])

        page = self.fetch(running["one"], "http://127.0.0.1:8080/healthz")
        self.assertTrue(json.loads(page)["joined"])
        # By its name, from another container.
        self.assertIn("# TYPE", self.fetch(running["three"], "http://one:8080/metrics"))
        token = [*self.inside(running["one"]), "cat", "/run/node/web.token"]
        self.assertRegex(installed.run(token, new_folder("cwd")).stdout, r"^[\w-]{20,}\n?$")

        before = self.events(running["four"], "listening")[0]["node"]
        self.assertEqual(running["four"].terminate(PATIENCE), -signal.SIGTERM)
        running["four"] = self.start("four", sites.sites[3].enter)
        self.await_health(running, "four")
        self.assertEqual(self.events(running["four"], "listening")[0]["node"], before)

    def program(self, name: str) -> str:
        """One that stands for the one in the container."""
        return str(installed.installed().program(name))

    def start(self, name: str, enter: list[str]) -> Running:
        """The container of a service."""
        command = [self.program("twist"), *self.entry, *self.services[name]["command"]]
        contain = ["unshare", "--mount", "sh", "-e", "-c", _CONTAIN, "sh"]
        node = Running([*enter, *contain, str(self.folders[name]), *command])
        self.addCleanup(node.kill)
        wait_until(
            lambda: self.events(node, "listening"),
            f"{name} to listen",
            details=lambda: node.printed,
        )
        return node

    def events(self, node: Running, name: str) -> list[dict[str, Any]]:
        return [record for record in node.records if record.get("event") == name]

    def inside(self, node: Running) -> list[str]:
        """What has a program run in the same container."""
        return ["nsenter", f"--target={node.process.pid}", "--net", "--mount", "--"]

    def ask(self, node: Running, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run py2p in a container."""
        command = [*self.inside(node), self.program("py2p"), *arguments]
        return installed.run(command, new_folder("cwd"))

    def await_health(self, running: dict[str, Running], name: str) -> None:
        """Wait until the container's own health check is content."""
        arguments = self.whole["x-node"]["healthcheck"]["test"][2:]
        wait_until(
            lambda: self.ask(running[name], *arguments).returncode == 0,
            f"{name} to be healthy",
            details=lambda: running[name].printed,
        )

    def peers(self, node: Running) -> int:
        done = self.ask(node, "status", "--json", f"--control={SOCKET}")
        return int(json.loads(done.stdout)["settled"])

    def fetch(self, node: Running, url: str) -> str:
        """What is answered to a client in the same container."""
        source = (
            f"import urllib.request as u; print(u.urlopen({url!r}, timeout=20).read().decode())"
        )
        done = installed.run([*self.inside(node), self.program("python"), "-c", source], scratch())
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout
