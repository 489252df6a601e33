"""
A network of the test's own, with a switch that can be turned off.

Network namespaces are hosts without a machine: each has interfaces, addresses and routes of its
own, and nothing but a virtual cable leads out. Here one router joins any number of sites::

    site 0 - eth0 ------ site0 . router . site1 ------ eth0 - site 1
      192.0.2.2                 |                             192.0.2.10
                              site2 ------ eth0 - site 2
                                                  192.0.2.18

The router has no way to anywhere else, so nothing that runs at a site reaches this machine's
network, whatever it dials. It can

* **cut** sites off: it forwards nothing to or from them, and says nothing about it. That is what a
  failed uplink, a pulled plug behind a switch, or a firewall that drops looks like: connections
  stand at both ends, and no end is told.
* **unplug** a site: the cable's link goes down, which the site sees at its interface.

Namespaces have no names here. Each lives as long as a process that waits for the end of its
standard input, and whatever was started in it: when the test's process ends, however it does,
they are gone, and interfaces, addresses and routes with them.

It takes Linux, root (or ``CAP_SYS_ADMIN`` and ``CAP_NET_ADMIN``), and the programs ``ip`` (iproute2),
``unshare`` and ``nsenter`` (util-linux).
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

#: Addresses for documentation, which lead nowhere outside. Source: RFC 5737.
NETWORK = IPv4Network("192.0.2.0/24")

#: One of these for each site: the router has its first address, the site its second.
SUBNETS = list(NETWORK.subnets(new_prefix=29))

#: Seconds that one command may take. They take thousandths.
PATIENCE = 10.0

_PROGRAMS = {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}

#: Says that it is there, and stays until nobody holds the other end of its standard input.
_HOLD = "echo here; exec cat"


class NamespacesMissing(Exception):
    """There can be no namespaces; the text says why, and what would help."""


class Namespace:
    """
    One network namespace. Its loopback interface is up.

    :ivar enter: what stands before a command that is to run in it. The command keeps its process
        id and its parent.
    """

    def __init__(self) -> None:
        """:raises NamespacesMissing: the system does not let us."""
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if not self._holder.stdout.readline():
            told = self._holder.stderr.read().strip()
            self.close()
            raise NamespacesMissing(f"no network namespaces here: {told or 'unshare has failed'}")
        self.enter = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--"]
        try:
            self.ip("link set lo up")
        except NamespacesMissing:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process that holds it."""
        return self._holder.pid

    def run(self, command: Sequence[str], text: str = "") -> str:
        """
        Run a command in it to its end.

        :param text: for its standard input.
        :return: what it has printed.
        :raises NamespacesMissing: it has failed.
        """
        done = subprocess.run(
            [*self.enter, *command],
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode != 0:
            raise NamespacesMissing(f"'{' '.join(command)}' has failed: {done.stderr.strip()}")
        return done.stdout

    def ip(self, *commands: str) -> None:
        """Run ``ip`` commands, without the word itself."""
        self.run(["ip", "-batch", "-"], "\n".join(commands) + "\n")

    def set(self, **values: int) -> None:
        """
        Set variables of the kernel below ``net.ipv4``, with ``__`` for a dot.
        """
        script = "".join(
            f"echo {value} > /proc/sys/net/ipv4/{name.replace('__', '/')}\n"
            for name, value in values.items()
        )
        self.run(["sh", "-e"], script)

    def close(self) -> None:
        """
        Let go of it; may be repeated. It goes when the last process in it has ended.
        """
        for pipe in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._holder.kill()
        self._holder.wait()


class Sites:
    """
    Sites that a router joins.

    :ivar sites: their namespaces.
    :ivar addresses: the address of each.
    """

    def __init__(self, count: int) -> None:
        """:raises NamespacesMissing: the system does not let us, or lacks a program."""
        if not 0 < count <= len(SUBNETS):
            raise ValueError(f"1 to {len(SUBNETS)} sites, not {count}")
        find_namespaces()
        self.sites: list[Namespace] = []
        self.addresses: list[str] = []
        self._cut: set[int] = set()
        self._router = Namespace()
        try:
            self._router.set(ip_forward=1)
            for number in range(count):
                self._add(number)
        except BaseException:
            self.close()
            raise

    def _add(self, number: int) -> None:
        subnet = SUBNETS[number]
        gateway, address = subnet[1], subnet[2]
        site = Namespace()
        self.sites.append(site)
        self.addresses.append(str(address))
        self._router.ip(
            f"link add site{number} type veth peer name eth0 netns {site.pid}",
            f"address add {_in(subnet, gateway)} dev site{number}",
            f"link set site{number} up",
        )
        site.ip(
            f"address add {_in(subnet, address)} dev eth0",
            "link set eth0 up",
            f"route add default via {gateway}",
        )

    def cut(self, *sites: int) -> None:
        """Forward nothing from or to these sites any more, silently; again changes nothing."""
        self._forward(*sites, on=False)

    def heal(self, *sites: int) -> None:
        """End a `cut`, of all sites if none are named."""
        self._forward(*(sites or tuple(self._cut)), on=True)

    def _forward(self, *sites: int, on: bool) -> None:
        changed = [site for site in sites if (site in self._cut) == on]
        if not changed:
            return
        # What comes from a site is taken no further, and what would go to it disappears: a
        # blackhole sends no ICMP message, unlike a route that is missing.
        verb = "delete" if on else "add"
        self._router.ip(*(f"route {verb} blackhole {self.addresses[site]}/32" for site in changed))
        self._router.set(**{f"conf__site{site}__forwarding": int(on) for site in changed})
        self._cut.symmetric_difference_update(changed)

    def unplug(self, site: int) -> None:
        """Take the link of a site's cable down, at the router's end."""
        self._router.ip(f"link set site{site} down")

    def plug(self, site: int) -> None:
        """End an `unplug`."""
        self._router.ip(f"link set site{site} up")

    def close(self) -> None:
        """Let go of all namespaces; may be repeated."""
        for namespace in (*self.sites, self._router):
            namespace.close()


def _in(subnet: IPv4Network, address: IPv4Address) -> str:
    return f"{address}/{subnet.prefixlen}"


@functools.cache
def _reason_against() -> str:
    if not sys.platform.startswith("linux"):
        return "network namespaces are a thing of Linux"
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            return f"no network namespaces without the program {program}: install {package}"
    try:
        one, other = Namespace(), Namespace()
        try:
            one.ip(f"link add probe type veth peer name probe netns {other.pid}")
        finally:
            for namespace in (one, other):
                namespace.close()
    except NamespacesMissing as error:
        advice = "" if os.geteuid() == 0 else " (root may make them)"
        return f"{error}{advice}"
    return ""


def find_namespaces() -> None:
    """
    Make sure that there can be namespaces and cables between them, by making some.

    :raises NamespacesMissing: there cannot.
    """
    if reason := _reason_against():
        raise NamespacesMissing(reason)


def interfaces_outside() -> set[str]:
    """The interfaces of this machine itself, which must not change."""
    return {path.name for path in Path("/sys/class/net").iterdir()}
