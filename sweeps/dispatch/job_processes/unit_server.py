"""A child of a job that works side by side with others: it does one unit after another that its parent hands to it.

Both speak lines of JSON over a socket. If the socket closes without a word, the parent is dead, and the child ends, too.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from sweeps.dispatch.job_processes.stop_signals import STOPPING, StopSignals

__all__ = ["END", "JobEndsError", "serve_units"]


# What the parent says to a child that gets no further unit; a unit comes as a list of one.
END: list[Any] = []
# its messages; None: it is dead
_Inbox = queue.SimpleQueue[list[Any] | None]
# An orphan saves its state after the current step; one that cannot is ended.
_SECONDS_OF_AN_ORPHAN = 60.0


class JobEndsError(Exception):
    """No process of this job can do a further unit, e.g. because its GPU is broken."""


def serve_units(
    descriptor: int,
    open_work: Callable[[Any, StopSignals], Callable[[Any], Any]],
    orphaned: Callable[[], None],
) -> None:
    """Do the units that the parent sends, until it says that there are no more.

    USR2 and TERM are noted; the work ends then and answers so. An orphan notes a TERM.

    Args:
        descriptor: of the socket.
        open_work: called with the parent's first message and the signals; it returns what does a unit and returns an
            answer, both in plain JSON values. If that raises JobEndsError, the parent ends the job.
        orphaned: called at the end if the parent has died.
    """
    with socket.socket(fileno=descriptor) as link, StopSignals() as stop:
        link.set_inheritable(False)  # else a process of this one would keep it open
        # the parent has blocked them, so that none could kill this process before
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        inbox: _Inbox = queue.SimpleQueue()
        threading.Thread(target=_receive, args=(link, inbox), name="inbox", daemon=True).start()
        word = inbox.get()
        if word:
            word = _serve(link, inbox, open_work(word[0], stop))
        if word is None:
            orphaned()


def _serve(link: socket.socket, inbox: _Inbox, do: Callable[[Any], Any]) -> list[Any] | None:
    """Do units until there are no more; return the parent's last word, None if it has died."""
    _send(link, "ready", None)
    while word := inbox.get():
        try:
            answer = do(word[0])
        except JobEndsError as error:
            _send(link, "ends", str(error))
            raise
        if not _send(link, "answer", answer):
            return None
    return word


def _receive(link: socket.socket, inbox: _Inbox) -> None:
    """Pass the parent's messages on; after its death make this process stop, by force if it does not."""
    with link.makefile("r", encoding="utf-8") as lines:
        try:
            for line in lines:
                inbox.put(word := json.loads(line))
                if word == END:
                    return
        except (OSError, ValueError):  # reset, or the middle of a line
            pass
    inbox.put(None)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SECONDS_OF_AN_ORPHAN)
    os._exit(1)


def _send(link: socket.socket, kind: str, content: Any) -> bool:
    """Send a message; whether the parent is still there."""
    try:
        link.sendall(f"{json.dumps([kind, content])}\n".encode())
    except OSError:
        return False
    return True
