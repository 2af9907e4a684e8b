"""USR2 and TERM in a job: noted, so that the training saves its state, and then followed."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["STOPPING", "StopSignals"]


STOPPING = (signal.SIGUSR2, signal.SIGTERM)
# SLURM does not requeue a job that ends by itself in its grace time, so it waits this long to be killed.
_SECONDS_TO_BE_KILLED = 600.0


class StopSignals:
    """Context in which USR2 and TERM are only noted; calling it returns the names of those that came, or None."""

    def __init__(self) -> None:
        """Note nothing yet."""
        self._seen: set[int] = set()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        """Install the handlers."""
        for number in STOPPING:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the former handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> str | None:
        """Return the names of the signals that came, as the reason to stop."""
        return " and ".join(signal.Signals(n).name for n in self.seen) or None

    @property
    def seen(self) -> list[int]:
        """The signals that came."""
        return sorted(self._seen)

    def hand_over(self, fail: Callable[[str], None]) -> None:
        """End the process as the signal requires, after its state was saved; does not return.

        After USR2, submitit queues the job again. If it refuses, `fail` is called with the reason. After TERM
        alone, the cluster queues the job again once it has killed the process.
        """
        deadline = time.monotonic() + _SECONDS_TO_BE_KILLED
        while (
            signal.SIGUSR2 not in self._seen
            and "SLURM_JOB_ID" in os.environ
            and time.monotonic() < deadline
        ):
            time.sleep(0.2)
        number = signal.SIGUSR2 if signal.SIGUSR2 in self._seen else signal.SIGTERM
        before = self._before[number]
        if number == signal.SIGUSR2 and callable(before):
            try:
                before(number, None)
            except Exception as error:
                fail(f"saved, but not queued again: {error}")
                raise
        sys.exit(128 + number)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._seen.add(number)
