"""Units of work in several child processes side by side; whichever is free takes the next unit.

A child that crashes loses its unit only, and another one takes its place. Children are new processes, not forks,
because CUDA does not survive a fork.
"""

from __future__ import annotations

import json
import logging
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sweeps.dispatch.job_processes.stop_signals import STOPPING, StopSignals
from sweeps.dispatch.job_processes.unit_server import END, JobEndsError

__all__ = ["Outcome", "run_side_by_side"]


logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
# to save their states if the parent ends early; a process on a broken GPU may never answer
_SECONDS_TO_STOP = 20.0


@dataclass(frozen=True)
class Outcome:
    """What has come of the units, by their names; a unit in neither was not begun, because a signal came.

    Attributes:
        answers: of the units that were done.
        died: for each unit whose process died the exit code, negative for a signal.
    """

    answers: dict[str, Any]
    died: dict[str, int]


def run_side_by_side(
    command: Sequence[str],
    first: Any,
    units: Mapping[str, Any],
    n_at_once: int,
    stop: StopSignals,
) -> Outcome:
    """Do `units` in `n_at_once` child processes, and return when all have ended.

    A signal that `stop` notes is passed on to the children, and no further unit is begun.

    Args:
        command: starts a child that calls `serve_units`; the descriptor of its socket is added.
        first: message to every child, plain JSON values; so are the units.
        units: by their names, in the order in which they are begun.
        n_at_once: child processes.
        stop: the signals of this process.

    Raises:
        JobEndsError: a child says that the job must end, or no child starts. The others have been stopped.
    """
    pool = _Pool(command, first, dict(units), stop)
    try:
        pool.work(n_at_once)
    finally:
        pool.end()
    return Outcome(pool.answers, pool.died)


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    link: socket.socket
    is_ready: bool = False
    unit: str | None = None
    rest: bytes = b""  # of its messages: the beginning of a line
    told: set[int] = field(default_factory=set)  # signals

    def send(self, message: list[Any]) -> None:
        """Send a message; a child that has died is noticed where its messages are read."""
        with suppress(OSError):
            self.link.sendall(f"{json.dumps(message)}\n".encode())


class _Pool:
    def __init__(
        self, command: Sequence[str], first: Any, waiting: dict[str, Any], stop: StopSignals
    ) -> None:
        self._command, self._first, self._waiting, self._stop = command, first, waiting, stop
        self._children: list[_Child] = []
        self._selector = selectors.DefaultSelector()
        self.answers: dict[str, Any] = {}
        self.died: dict[str, int] = {}

    def work(self, n_at_once: int) -> None:
        """Keep `n_at_once` children at work while there are units."""
        for _ in range(min(n_at_once, len(self._waiting))):
            self._start()
        while self._children:
            for key, _ in self._selector.select(_POLL_SECONDS):
                self._listen(key.data)
            if self._stop.seen:
                self._pass_on_signals()

    def end(self) -> None:
        """Stop the children that are left; kill those that do not end."""
        for child in self._children:
            child.process.send_signal(signal.SIGTERM)
            child.send(END)
        deadline = time.monotonic() + _SECONDS_TO_STOP
        for child in self._children:
            _ended(child.process, max(0.0, deadline - time.monotonic()))
            child.link.close()
        self._selector.close()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        # until it has its handlers, a signal to all processes of the job would kill the child
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            process = subprocess.Popen(
                [*self._command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        child = _Child(process, ours)
        child.send([self._first])
        self._children.append(child)
        self._selector.register(ours, selectors.EVENT_READ, child)

    def _listen(self, child: _Child) -> None:
        try:
            received = child.link.recv(65536)
        except OSError:
            received = b""
        if not received:
            self._bury(child)
            return
        *lines, child.rest = (child.rest + received).split(b"\n")
        for line in lines:
            kind, content = json.loads(line)
            if kind == "ends":
                raise JobEndsError(content)
            if child.unit is not None:
                self.answers[child.unit] = content
            child.is_ready, child.unit = True, None
            self._hand_out(child)

    def _hand_out(self, child: _Child) -> None:
        if not self._waiting or self._stop.seen:
            child.send(END)
            return
        child.unit = next(iter(self._waiting))
        child.send([self._waiting.pop(child.unit)])

    def _pass_on_signals(self) -> None:
        for child in self._children:
            for number in set(self._stop.seen) - child.told:
                child.told.add(number)
                child.process.send_signal(number)
            if child.unit is None:
                child.send(END)

    def _bury(self, child: _Child) -> None:
        """Note the end of a child; if it has crashed, another one takes its place.

        Raises:
            JobEndsError: it has died at its start, as the next one would.
        """
        self._selector.unregister(child.link)
        self._children.remove(child)
        child.link.close()
        code = _ended(child.process, _SECONDS_TO_STOP)
        if child.unit is not None:
            self.died[child.unit] = code
            logger.error("process %d died with exit code %d", child.process.pid, code)
        if not child.is_ready and not self._stop.seen:
            raise JobEndsError(f"a process of the job ended at its start with exit code {code}")
        idle = sum(one.unit is None for one in self._children)
        if len(self._waiting) > idle and not self._stop.seen:
            self._start()


def _ended(process: subprocess.Popen[bytes], seconds: float) -> int:
    """Wait for a process that is about to end, kill it after `seconds`, and return its exit code."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    process.kill()
    return process.wait()
