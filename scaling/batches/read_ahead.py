"""Reading ahead from a store that is larger than memory: the operating system is asked for the pages of the coming steps.

A step of random impressions touches some ten pages for each, all over the store. Without this, training waits for one
after the other; asked for beforehand, the disk reads many at once, and nothing around them. `benchmarks/cold_store.py`
measures it. Nothing that is read depends on it.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from models.ctr_model import Batch
from scaling.store import EventStore

__all__ = ["exceeds_memory", "reading_ahead"]


_PAGE = 4096
# Steps between asking for the impressions, asking for their histories, and reading both.
_STEPS = 4
# Asking for a page takes as long as handing it to the disk.
_THREADS = 4
# Of the memory of this machine, what a store may take before its pages are asked for: processes share it.
_SHARE = 0.5


# A path of a store, and the rows of its array `[starts, ends)`.
_Rows = tuple[str, NDArray[np.int64], NDArray[np.int64]]


def exceeds_memory(store: EventStore) -> bool:
    """Whether the store takes over half of this machine's memory, and the machine can be asked for pages."""
    n_bytes = sum(file.stat().st_size for file in store.path.rglob("*.npy"))
    return n_bytes > _SHARE * psutil.virtual_memory().total and hasattr(os, "posix_fadvise")


def reading_ahead(
    store: EventStore,
    steps: Iterator[list[Batch]],
    rows_of: Callable[[int], NDArray[np.int64]],
    first_step: int,
    n_steps: int,
    max_len: int,
) -> Iterator[list[Batch]]:
    """Yield `steps`, and ask for the pages of the next ones meanwhile.

    Args:
        store: that the steps read.
        steps: from `first_step` on.
        rows_of: the impressions of a step.
        first_step: the first one that is yielded.
        n_steps: of the whole epoch.
        max_len: events of a history that are read.
    """
    with ExitStack() as stack:
        pages = _Pages(store, stack)
        threads = stack.enter_context(ThreadPoolExecutor(_THREADS))
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        asked: deque[list[Future[None]]] = deque()
        n_impressions = n_histories = first_step
        for step in range(first_step, n_steps):
            for ahead in range(n_impressions, min(step + 2 * _STEPS + 1, n_steps)):
                for rows in pages.of_impressions(rows_of(ahead)):
                    threads.submit(pages.ask_for, *rows)
            for ahead in range(n_histories, min(step + _STEPS + 1, n_steps)):
                own = pages.of_histories(rows_of(ahead), max_len)
                asked.append([threads.submit(pages.ask_for, *rows) for rows in own])
            n_impressions, n_histories = step + 2 * _STEPS + 1, step + _STEPS + 1
            for one in asked.popleft():  # a page that was not asked for brings all around it
                one.result()
            yield next(steps)


class _Pages:
    """The files of a store, by their page."""

    def __init__(self, store: EventStore, stack: ExitStack) -> None:
        self._store = store
        self._files: dict[str, tuple[int, int, int]] = {}
        for file in store.path.rglob("*.npy"):
            name = str(file.relative_to(store.path).with_suffix(""))
            if not name.startswith("truth/"):
                self._files[name] = _opened(file, stack)

    def of_impressions(self, rows: NDArray[np.int64]) -> Iterator[_Rows]:
        """Yield what these impressions read of their own arrays."""
        for name in self._files:
            if name.startswith("impressions/"):
                yield name, rows, rows + 1

    def of_histories(self, rows: NDArray[np.int64], max_len: int) -> Iterator[_Rows]:
        """Yield what these impressions read of their users."""
        store = self._store
        users, ends = np.asarray(store.user[rows], np.int64), store.history_end[rows]
        starts = np.maximum(store.offsets[users], ends - max_len)
        for name in self._files:
            if name == "behaviours/offsets" or name.startswith("profile/"):
                yield name, users, users + 1
            elif name.startswith("behaviours/"):
                yield name, starts, ends

    def ask_for(self, name: str, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        """Ask for rows `[starts, ends)` of an array; of a feature with several values per cell, for its ids."""
        lists = self._store.lists.get(name.removesuffix(".weights"))
        if lists is not None and lists.offsets is not None:
            starts, ends = lists.offsets[starts], lists.offsets[ends]
        descriptor, begin, size = self._files[name]
        first = (begin + starts * size) // _PAGE
        last = (begin + ends * size - 1) // _PAGE
        some = ends > starts
        for page, stop in _runs(first[some], last[some] + 1):
            with suppress(OSError):  # it is only advice
                os.posix_fadvise(
                    descriptor, page * _PAGE, (stop - page) * _PAGE, os.POSIX_FADV_WILLNEED
                )


def _opened(file: Path, stack: ExitStack) -> tuple[int, int, int]:
    """An open file, the byte at which its rows begin, and the bytes of a row."""
    array = np.load(file, mmap_mode="r")
    descriptor = os.open(file, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    return descriptor, int(array.offset), array.dtype.itemsize


def _runs(first: NDArray[np.int64], stop: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the pages `[first, stop)` as runs that do not overlap, in order."""
    if not len(first):
        return
    order = np.argsort(first, kind="stable")
    first, stop = first[order], np.maximum.accumulate(stop[order])
    begins = np.flatnonzero(np.append(True, first[1:] > stop[:-1]))
    ends = np.append(begins[1:], len(first)) - 1
    yield from zip(first[begins].tolist(), stop[ends].tolist(), strict=True)
