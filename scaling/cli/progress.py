"""How long work is told on stderr: a live bar on a terminal, else a line now and then."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from scaling.cli.output import is_live

__all__ = ["stopped_cleanly", "told"]


WIDTH = 24  # characters of the bar
EVERY = 10.0  # seconds between two lines where there is no terminal


@contextmanager
def told(what: str) -> Iterator[Callable[[float, str, float], None]]:
    """Yield `(share done, step, seconds left) -> None`, which tells them as progress of `what`."""
    live, last = is_live(), time.monotonic()

    def report(done: float, step: str, left: float) -> None:
        nonlocal last
        eta = f"eta {left // 60:02.0f}:{left % 60:02.0f}" if left == left else "eta --:--"
        if live:
            bar = ("#" * round(done * WIDTH)).ljust(WIDTH, ".")
            sys.stderr.write(f"\r\x1b[K{what} [{bar}] {done:4.0%} {eta} {step}")
            sys.stderr.flush()
        elif time.monotonic() - last >= EVERY:
            last = time.monotonic()
            sys.stderr.write(f"{what}: {done:.0%} done, {step}, {eta}\n")

    try:
        yield report
    finally:
        if live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextmanager
def stopped_cleanly() -> Iterator[None]:
    """Let a request to end (SIGTERM) clean up as Ctrl-C does."""

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
