"""The engine of an import: DuckDB in its own folder, with a memory limit and progress reports.

DuckDB sorts and joins data larger than memory (docs/data.md has a measurement against Polars).
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from scaling.arrays import Array
from scaling.errors import StorageError, UserError

if TYPE_CHECKING:
    import duckdb

__all__ = ["Engine", "Limits", "Progress", "Report"]


Report = Callable[[float, str, float], None]  # called with share done, step, seconds left

VECTORS = 128  # vectors of 2,048 rows fetched at a time
POLL = 0.25  # seconds between two polls of a query's progress


@dataclass(frozen=True)
class Limits:
    """Resource limits of an import; its output does not depend on them.

    Attributes:
        memory_gib: upper limit of the resident memory.
        threads: number of threads; None uses every core.
    """

    memory_gib: float = 4.0
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse limits with which the engine cannot start."""
        if not self.memory_gib >= 0.5:
            raise UserError(f"memory: {self.memory_gib} GiB is too little, expected 0.5 or more")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"threads: {self.threads} is too few, expected 1 or more")


class Progress:
    """Share of the import that is done, from each step's usual share of the time and its own progress."""

    def __init__(self, shares: dict[str, float], report: Report | None) -> None:
        self._shares, self._report = shares, report
        self._total, self._done, self._step, self._within = sum(shares.values()), 0.0, "", 0.0
        self._started = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the work in the `with` block as the step `name`."""
        self._step, self._within = name, 0.0
        self.within(0.0)
        yield
        self._done += self._shares[name]
        self._step = ""

    def within(self, share: float) -> None:
        """Report the share of the current step that is done, 0 to 1; it never decreases within a step."""
        if self._report is None or not self._step:
            return
        self._within = max(self._within, min(share, 1.0))
        done = (self._done + self._shares[self._step] * self._within) / self._total
        passed = time.monotonic() - self._started
        left = passed * (1 - done) / done if done > 0 else float("nan")
        self._report(done, self._step, left)


class Engine:
    """A DuckDB database in `folder`, to be used in a `with` block."""

    def __init__(self, folder: Path, limits: Limits, progress: Progress) -> None:
        self.folder, self._limits, self.progress = folder, limits, progress
        self._running, self._closing = False, threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """Open the database."""
        import duckdb
        import pandas as pd  # noqa: F401  # DuckDB's own import reports an interrupt as "pandas is missing"

        # The rest is for Python, the stream being written, and memory that the engine does not count.
        memory = max(0.6 * self._limits.memory_gib, self._limits.memory_gib - 1.5)
        config: dict[str, Any] = {
            "memory_limit": f"{memory * 1024:.0f}MiB",
            "temp_directory": str(self.folder / "spill"),
            "preserve_insertion_order": False,  # every query that needs an order has an ORDER BY
            "autoinstall_known_extensions": False,
        }
        if self._limits.threads is not None:
            config["threads"] = self._limits.threads
        self._connection = duckdb.connect(str(self.folder / "import.duckdb"), config=config)
        try:
            self._watcher.start()
            self.run("SET enable_progress_bar = true")  # query_progress needs it
            self.run("SET enable_progress_bar_print = false")
            self.run("SET TimeZone = 'UTC'")
            self.run("PRAGMA disable_checkpoint_on_shutdown")  # nobody opens the database again
            self.run("CREATE SCHEMA core")
        except (
            BaseException
        ):  # also on an interrupt: a running watcher would keep the database open
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close the database; the caller removes its folder."""
        self._closing.set()
        if self._watcher.is_alive():
            self._watcher.join()
        self._connection.close()

    def run(self, sql: str) -> "duckdb.DuckDBPyConnection":
        """Run one statement and report its progress.

        Raises:
            StorageError: there is not enough space on the disk or in memory. Other engine errors are not changed.
        """
        with _engine_errors(self._limits):
            self._running = True
            try:
                return self._connection.execute(sql)
            finally:
                self._running = False

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of a small result."""
        return self.run(sql).fetchall()

    def value(self, sql: str) -> Any:
        """Return the only value of a result."""
        return self.rows(sql)[0][0]

    def stream(self, sql: str) -> Iterator[dict[str, Array]]:
        """Yield the result piece by piece, each as columns of equal length without nulls."""
        result = self.run(sql)
        while True:
            with _engine_errors(self._limits):
                frame = result.fetch_df_chunk(VECTORS)
            if not len(frame):
                return
            yield {str(name): np.asarray(frame[name]) for name in frame}

    def is_plain(self, sql: str) -> bool:
        """Whether a SELECT only computes from columns of stored rows, so that its result need not be stored."""
        ((_, plan),) = self.rows(f"EXPLAIN (FORMAT json) {sql}")
        nodes, names = json.loads(plan), set()
        while nodes:
            node = nodes.pop()
            names.add(node["name"].strip())
            nodes += node.get("children", [])
        return names <= {"SEQ_SCAN", "READ_PARQUET", "FILTER", "PROJECTION", "UNION"}

    def columns(self, sql: str) -> dict[str, str]:
        """Return the columns of a SELECT and their types; in lower case, because the engine may change the case."""
        return {name.lower(): kind for name, kind, *_ in self.rows(f"DESCRIBE {sql}")}

    def keep_order(self, *, wanted: bool = True) -> None:
        """Read files in their row order from now on, or no longer; slower, for row numbers."""
        self.run(f"SET preserve_insertion_order = {str(wanted).lower()}")

    def _watch(self) -> None:
        """Report the progress of running queries until the engine closes."""
        while not self._closing.wait(POLL):
            # The query may just have ended; a missed progress report does no harm.
            if self._running:
                with suppress(Exception):
                    self.progress.within(self._connection.query_progress() / 100)


@contextmanager
def _engine_errors(limits: Limits) -> Iterator[None]:
    """Turn the engine's errors about space into a StorageError, and an interrupt into KeyboardInterrupt."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        # The engine raises the same error if the disk has no space for data that do not fit in memory.
        where = "on the disk" if "max_temp_directory_size" in str(error) else "in memory"
        raise StorageError(
            f"the import found no more space {where}; free some, or change the memory limit of {limits.memory_gib:g} GiB"
        ) from error
    except duckdb.IOException as error:
        if "No space left" not in str(error):
            raise
        raise StorageError(
            "the disk is full; the import needs about twice the size of the unpacked input beside OUT"
        ) from error
    except RuntimeError as error:
        if "interrupted" not in str(error):
            raise
        raise KeyboardInterrupt from error
