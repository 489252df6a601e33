"""
Start the processes of one transfer, watch it, and take its figures.

A transfer is two fresh processes (see :mod:`bench.worker`), so that no case
inherits another's memory, caches or history. The runner itself sleeps while
they work: on two cores a busy third process would be measured along.

Everything is bounded: a worker ends by itself at the limit it was started
with, a transfer that stands still is given up, and whatever happens no process
is left when :func:`transfer` returns.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

#: The project's root: modules are found from here, in any interpreter.
ROOT = Path(__file__).resolve().parent.parent

#: Names the interpreter that has py2p 0.6.757.
REFERENCE_VARIABLE = "PY2P_REFERENCE_PYTHON"

#: Where that interpreter is looked for otherwise.
REFERENCE_PYTHON = Path(".reference-env") / "bin" / "python"

REFERENCE_VERSION = "0.6.757"

#: Seconds for a process to start, to connect, and to answer a word.
ANSWER_TIME = 30.0

#: Seconds without one more message after which a transfer is given up.
PATIENCE = 8.0

#: Seconds one transfer may take from its start to its end.
TRANSFER_LIMIT = 180.0


@dataclass(frozen=True)
class Case:
    """
    One implementation under measurement.

    :ivar name: what the table calls it.
    :ivar module: the program that plays both roles.
    :ivar python: the interpreter that runs it.
    """

    name: str
    module: str
    python: str = sys.executable


@dataclass(frozen=True)
class Sample:
    """
    What one transfer showed.

    :ivar rate: messages a second, first send to last receipt.
    :ivar sender_cpu: microseconds of processor time per message.
    :ivar receiver_cpu: the same, at the other end.
    """

    rate: float
    sender_cpu: float
    receiver_cpu: float

    @property
    def cpu(self) -> float:
        """Microseconds of processor time per message, both ends together."""
        return self.sender_cpu + self.receiver_cpu


class TransferFailed(Exception):
    """
    A transfer gave no figures: messages were lost, or a process failed.

    :ivar details: what the process last wrote, for whoever looks for the reason.
    """

    def __init__(self, summary: str, details: str = "") -> None:
        super().__init__(summary)
        self.details = details


class CaseMissing(Exception):
    """A case cannot run here, for a reason outside this project."""


def ours() -> Case:
    """Describe py2p_twisted."""
    return Case("ours", "bench.peers.ours")


def bare() -> Case:
    """Describe the ceiling."""
    return Case("bare", "bench.peers.bare")


def py2p() -> Case:
    """
    Find py2p in an interpreter of its own.

    :raises CaseMissing: there is none, or it has another version.
    """
    named = os.environ.get(REFERENCE_VARIABLE)
    python = Path(named) if named else ROOT / REFERENCE_PYTHON
    hint = f"{REFERENCE_VARIABLE} can name an interpreter that has py2p=={REFERENCE_VERSION}"
    if not python.exists():
        where = REFERENCE_VARIABLE if named else str(REFERENCE_PYTHON)
        raise CaseMissing(f"no interpreter at {where}; {hint}")
    try:
        probe = subprocess.run(
            [str(python), "-c", "from py2p import base; print(base.version)"],
            cwd=ROOT,
            env=_environment(str(python)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_TIME,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CaseMissing(f"its interpreter does not run ({error}); {hint}") from error
    found = probe.stdout.strip()
    if probe.returncode:
        raise CaseMissing(f"its interpreter cannot import py2p; {hint}")
    if found != REFERENCE_VERSION:
        raise CaseMissing(f"found py2p {found}; {hint}")
    return Case("py2p", "bench.peers.reference", str(python))


#: In the order in which a round takes them.
CASES: dict[str, Callable[[], Case]] = {"ours": ours, "bare": bare, "py2p": py2p}


def _environment(python: str) -> dict[str, str]:
    """Copy ours, without what would lead another interpreter to our packages."""
    if python == sys.executable:
        return dict(os.environ)
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
    }


class Process:
    """A worker, seen from the runner."""

    def __init__(
        self, role: str, process: asyncio.subprocess.Process, diagnostics: IO[bytes]
    ) -> None:
        self._role = role
        self._process = process
        self._diagnostics = diagnostics

    def tell(self, word: str) -> None:
        """Say a word to the worker."""
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")

    async def answers(self) -> AsyncIterator[dict[str, Any]]:
        """
        Yield what the worker says, for as long as it lives.

        :raises TransferFailed: the worker says so, or has ended.
        """
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if answer["say"] == "failed":
                raise TransferFailed(
                    f"the {self._role} failed: {answer['why']}", self._last_words()
                )
            yield answer
        status = await self._process.wait()
        raise TransferFailed(f"the {self._role} ended with status {status}", self._last_words())

    async def hear(self, what: str, within: float = ANSWER_TIME) -> dict[str, Any]:
        """Wait until the worker says ``what``."""
        try:
            async with asyncio.timeout(within):
                async for answer in self.answers():
                    if answer["say"] == what:
                        return answer
        except TimeoutError:
            pass
        raise TransferFailed(f"the {self._role} did not say {what!r} within {within:.0f} s")

    def _last_words(self) -> str:
        self._diagnostics.seek(0)
        lines = self._diagnostics.read().decode(errors="replace").strip().splitlines()
        return "".join(f"\n    {line}" for line in lines[-12:])


@asynccontextmanager
async def start(case: Case, role: str, *task: str) -> AsyncIterator[Process]:
    """Start a worker, and see it end."""
    with tempfile.TemporaryFile() as diagnostics:
        process = await asyncio.create_subprocess_exec(
            case.python,
            *("-m", case.module, role, *task, "--limit", str(TRANSFER_LIMIT + ANSWER_TIME)),
            cwd=ROOT,
            env=_environment(case.python),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=diagnostics,
        )
        try:
            yield Process(f"{role} process", process, diagnostics)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def transfer(
    case: Case, size: int, count: int, window: int, progress: Callable[[int], None]
) -> Sample:
    """
    Carry ``count`` messages of ``size`` bytes and take the figures.

    :param window: unacknowledged messages allowed, where a case acknowledges.
    :param progress: told now and then how many messages have arrived.
    :raises TransferFailed: not every message arrived, once each.
    """
    task = ("--size", str(size), "--count", str(count), "--window", str(window))
    async with start(case, "receive", *task) as receiver:
        port = (await receiver.hear("ready"))["port"]
        async with start(case, "send", *task, "--port", str(port)) as sender:
            await sender.hear("ready")
            receiver.tell("go")
            await receiver.hear("started")
            sender.tell("go")
            # A sender that dies ends the transfer at once, not by patience.
            sending = asyncio.create_task(sender.hear("sent", within=TRANSFER_LIMIT))
            receiving = asyncio.create_task(_watch(receiver, progress))
            try:
                done, _ = await asyncio.wait(
                    {sending, receiving}, return_when=asyncio.FIRST_COMPLETED
                )
                if sending in done:
                    await sending
                arrived = await receiving
                if not arrived["distinct"] == arrived["received"] == count:
                    raise TransferFailed(
                        f"coverage {arrived['distinct'] / count:.2%}: {arrived['distinct']:,} of"
                        f" {count:,} messages arrived, in {arrived['received']:,} receipts"
                    )
                await sending
            finally:
                sending.cancel()
                receiving.cancel()
            sender.tell("finish")
            left = await sender.hear("result")
    return Sample(
        rate=count / (arrived["ended"] - left["started"]),
        sender_cpu=left["cpu"] / count * 1e6,
        receiver_cpu=arrived["cpu"] / count * 1e6,
    )


async def _watch(receiver: Process, progress: Callable[[int], None]) -> dict[str, Any]:
    """Follow the receiver to its result, and end its wait when nothing moves."""
    loop = asyncio.get_running_loop()
    begun = last_moved = loop.time()
    last_count = 0
    try:
        async with asyncio.timeout(ANSWER_TIME) as silence:
            async for answer in receiver.answers():
                if answer["say"] == "result":
                    return answer
                now = loop.time()
                silence.reschedule(now + ANSWER_TIME)
                if answer["messages"] != last_count:
                    last_count, last_moved = answer["messages"], now
                progress(last_count)
                if now - last_moved > PATIENCE or now - begun > TRANSFER_LIMIT:
                    receiver.tell("stop")
    except TimeoutError:
        pass
    raise TransferFailed(f"the receiver said nothing for {ANSWER_TIME:.0f} s")
