"""The driver of a sharded import: it prepares the work folder, lets workers make the pieces, and puts the store together."""

import errno
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scaling.atomic_files import atomic_folder
from scaling.errors import StorageError, UserError
from scaling.importers.pipeline.engine import Report
from scaling.importers.pipeline.id_joins import found_counts
from scaling.importers.pipeline.reading import log_counts
from scaling.importers.pipeline.sharded.array_pieces import arrays_of
from scaling.importers.pipeline.sharded.id_pieces import found_of, schema_of_job
from scaling.importers.pipeline.sharded.job_order import PHASES, count_done
from scaling.importers.pipeline.sharded.raw_pieces import added_counts, table_counts
from scaling.importers.pipeline.sharded.work_folder import ShardedImport
from scaling.importers.pipeline.sorted_output import refuse_one_class, store_description
from scaling.importers.pipeline.vocabularies import check_names
from scaling.store import EventStore, HistoryLengths, open_store, write_document

__all__ = ["Workers", "import_in_shards"]


logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_REPORTS = 0.5

# Works an import off; calls its second argument now and then.
Workers = Callable[[ShardedImport, Callable[[], None]], None]


def import_in_shards(job: ShardedImport, workers: Workers, report: Report | None) -> EventStore:
    """Let `workers` make all pieces that are missing, put the store together, and open it.

    Raises:
        UserError: the input is bad (with file and line), or something cannot be written. The work folder stays, and the next
            call goes on from there.
    """
    check_names(job.out, job.log)
    try:
        job.work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{job.work}: cannot be written: {error.strerror}") from error
    with _alone(job.work):
        job = job.planned()
        watch = _Watch(job, report)
        workers(job, watch)
        watch.tell()
        job.raise_first_error()
        if not watch.is_complete():
            raise UserError(
                f"{job.out}: all workers have ended before the import was complete; the same command goes on from here"
            )
        with atomic_folder(job.out) as folder:
            _assemble(job, folder)
        shutil.rmtree(job.work, ignore_errors=True)
    return open_store(job.out)


def _assemble(job: ShardedImport, folder: Path) -> None:
    """Make the store in `folder` from the pieces.

    Raises:
        UserError: the training part has only one class.
    """
    encoded = job.documents("encode")
    n_train, clicks = (sum(one["sizes"][i] for one in encoded) for i in (1, 2))
    refuse_one_class(n_train, clicks)
    counts = table_counts(job)
    made = {"impressions": added_counts(job.documents("rows"))}
    if job.log.events is not None:
        made["events"] = added_counts(job.documents("values"))
    if job.log.negatives is not None:
        made["negatives"] = added_counts(encoded)
        log_counts("negatives", made["negatives"])
    for name, count in made.items():
        counts[name] = counts[name].followed_by(count) if name in counts else count
    ids = job.document("ids")
    facts = {
        "rows": {name: count.to_json() for name, count in counts.items()},
        "found": found_counts(job.log, found_of(job)),
        "cut_cells": ids["cut_cells"],
        "standardised": ids["standardised"],
    }
    sizes = [one["sizes"][0] for one in encoded]
    logger.info(
        "%d shards of %s to %s impressions", job.n_shards, f"{min(sizes):,}", f"{max(sizes):,}"
    )
    lengths = HistoryLengths()
    for shard in range(job.n_shards):
        lengths.add_counts(np.load(job.piece("encode", shard) / "lengths.npy"))
    arrays, digests = arrays_of(job), {}
    for number, name in enumerate(arrays):
        piece = job.piece("join", number)
        digests[name] = job.document("join", number)["sha256"]
        file = folder / f"{name}.npy"
        file.parent.mkdir(exist_ok=True)
        _link(piece / "array.npy", file)
    described = store_description(
        job.log,
        schema_of_job(job),
        n_users=job.document("users")["n_users"],
        n_requests=sum(n for one in encoded for n in one["requests"].values()),
        n_train=n_train,
        boundary=job.document("users")["boundary"],
        history_quantiles=lengths.quantiles(),
        source={
            **job.source,
            **{name: fact for name, fact in facts.items() if fact},
            **job.log.facts,
        },
    )
    write_document(folder, arrays, digests, described)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where that is impossible."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV, errno.EMLINK):
            raise
        shutil.copyfile(source, target)


class _Watch:
    """Reports the progress, and logs what the jobs have logged, in their order."""

    def __init__(self, job: ShardedImport, report: Report | None) -> None:
        self._job, self._report = job, report
        self._begin = self._last = time.monotonic()
        self._first_share: float | None = None
        self._n_told = 0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_REPORTS:
            return
        self._last = now
        self.tell()
        if self._report is not None:
            share, phase = count_done(self._job)
            if self._first_share is None:  # what an earlier driver has done took no time
                self._first_share = share
            new = share - self._first_share
            left = (now - self._begin) * (1 - share) / new if new > 0 else float("nan")
            self._report(share, phase, left)

    def tell(self) -> None:
        """Log what the jobs of all phases that are complete have logged."""
        for phase in PHASES[self._n_told :]:
            if len(self._job.done(phase.name)) < phase.n_jobs(self._job):
                return
            for document in self._job.documents(phase.name):
                for level, name, line in document["logged"]:
                    logging.getLogger(name).log(level, "%s", line)
            self._n_told += 1

    def is_complete(self) -> bool:
        """Whether all jobs are done."""
        return self._n_told == len(PHASES)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other drivers from a work folder.

    Raises:
        UserError: there is another one.
    """
    descriptor: Any = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another process works on this import; wait until it has ended"
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)
