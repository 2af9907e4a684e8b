"""Waiting for the next look at a sweep, or for the key that ends the view."""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["quitting_key"]


_QUIT = ("q", "Q", "\x1b", "\x04", "")  # also escape, Ctrl-D, and a terminal that has gone


@contextmanager
def quitting_key() -> Iterator[Callable[[float], bool]]:
    """Yield `wait(seconds)`, which returns early, and True, if the user presses q.

    Keys are read only if stdin is a terminal and this process is in its foreground; else `wait` sleeps.
    """
    if not _has_keys():
        yield _sleep
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)  # each key at once and unseen; Ctrl-C still interrupts
        yield lambda seconds: _pressed(descriptor, seconds)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _has_keys() -> bool:
    # a process in the background would be stopped when it sets the terminal
    return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _pressed(descriptor: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0]:
            key = os.read(descriptor, 1).decode("latin-1")
            if key in _QUIT:
                return True
    return False
