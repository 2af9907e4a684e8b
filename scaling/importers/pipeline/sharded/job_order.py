"""The phases of a sharded import, and what a worker does: it makes pieces that are missing, phase by phase, until all are there."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from scaling.importers.pipeline.engine import Engine, Progress
from scaling.importers.pipeline.sharded.array_pieces import arrays_of, join_array, sort_range
from scaling.importers.pipeline.sharded.id_pieces import (
    count_shard,
    encode_shard,
    number_ids,
    place_rows,
)
from scaling.importers.pipeline.sharded.raw_pieces import (
    keep_shard,
    number_users,
    read_group,
    read_whole,
)
from scaling.importers.pipeline.sharded.work_folder import ShardedImport

__all__ = ["PHASES", "count_done", "work_off"]


_SECONDS_BETWEEN_LOOKS = 0.1

Fill = Callable[[ShardedImport, Engine, int, Path], dict[str, Any]]


class Phase(NamedTuple):
    """Jobs that may run at the same time, when those of the phase before are done.

    Attributes:
        name: also that of its folder.
        share: usual share of the time, in percent.
        n_jobs: number of jobs.
        fill: makes the piece of a job.
    """

    name: str
    share: float
    n_jobs: Callable[[ShardedImport], int]
    fill: Fill


def _ids(job: ShardedImport, engine: Engine, number: int, folder: Path) -> dict[str, Any]:
    return (number_ids, place_rows)[number](job, engine, number, folder)


PHASES = (
    Phase("read", 25, lambda job: len(job.groups), read_group),
    Phase("whole", 5, lambda job: 1, read_whole),
    Phase("rows", 10, lambda job: job.n_shards, keep_shard),
    Phase("users", 5, lambda job: 1, number_users),
    Phase("values", 10, lambda job: job.n_shards, count_shard),
    Phase("ids", 5, lambda job: 2, _ids),
    Phase("encode", 20, lambda job: job.n_shards, encode_shard),
    Phase("sort", 15, lambda job: 2 * job.n_shards, sort_range),
    Phase("join", 5, lambda job: len(arrays_of(job)), join_array),
)


def work_off(
    job: ShardedImport,
    owner: str,
    *,
    goes_on: Callable[[], bool] = lambda: True,
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Make missing pieces until all are there, a worker has met an error, or `goes_on` says no.

    An error is noted for the driver and the other workers.

    Args:
        job: the import, which the driver has prepared.
        owner: who this worker is; a second life of a killed worker has the same name, and takes over its claims at once.
        goes_on: is asked now and then.
        watch: is called after each piece.
    """
    for order, phase in enumerate(PHASES):
        n_jobs = None
        while True:
            if job.has_failed() or not goes_on():
                return
            n_jobs = phase.n_jobs(job) if n_jobs is None else n_jobs
            missing = sorted(set(range(n_jobs)) - job.done(phase.name))
            if not missing:
                break
            if not any(_made(job, phase, order, number, owner) for number in missing):
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            watch()


def _made(job: ShardedImport, phase: Phase, order: int, number: int, owner: str) -> bool:
    """Make a piece unless another worker does; return whether this one has tried."""
    with job.claimed(phase.name, number, owner) as is_mine:
        if not is_mine or number in job.done(phase.name):
            return False
        try:
            job.make(phase.name, number, lambda folder: _filled(job, phase.fill, number, folder))
        except Exception as error:  # noqa: BLE001  # the driver raises it
            if number not in job.done(phase.name):
                job.note_error(order, number, error)
        return True


def _filled(job: ShardedImport, fill: Fill, number: int, folder: Path) -> dict[str, Any]:
    """Fill a piece with an engine of its own; return what it states, with what was logged."""
    space = folder / "engine"
    space.mkdir()
    with _captured() as lines, Engine(space, job.limits, Progress({}, None)) as engine:
        stated = fill(job, engine, number, folder)
    for file in sorted(space.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    space.rmdir()
    return {**stated, "logged": lines}


@contextmanager
def _captured() -> Iterator[list[tuple[int, str, str]]]:
    """Keep what is logged in this context from the terminal: the driver logs it once, in the order of the pieces."""
    lines: list[tuple[int, str, str]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append((record.levelno, record.name, record.getMessage()))

    logger, handler = logging.getLogger("scaling"), Keep()
    before = logger.level, logger.propagate, logger.handlers
    logger.setLevel(logging.INFO)
    logger.propagate, logger.handlers = False, [handler]
    try:
        yield lines
    finally:
        logger.level, logger.propagate, logger.handlers = before
        logger.setLevel(before[0])


def count_done(job: ShardedImport) -> tuple[float, str]:
    """Return the share of the work that is done, and the phase that is going on."""
    total, done = sum(phase.share for phase in PHASES), 0.0
    for phase in PHASES:
        n_jobs, n_done = phase.n_jobs(job), len(job.done(phase.name))
        done += phase.share * n_done / n_jobs
        if n_done < n_jobs:
            return done / total, phase.name
    return 1.0, PHASES[-1].name
