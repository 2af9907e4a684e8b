"""The cells of a job, side by side in several processes on its GPU, or on its cores."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.process import check_packages
from scaling.records import RunStore
from scaling.study import RunConfig
from sweeps.dispatch.job_processes.mps_daemon import shared_gpus
from sweeps.dispatch.job_processes.side_by_side import run_side_by_side
from sweeps.dispatch.job_processes.stop_signals import StopSignals

if TYPE_CHECKING:
    from sweeps.dispatch.worker import CellJob

__all__ = ["Answer", "Stopped", "train_side_by_side"]


logger = logging.getLogger(__name__)

_CHILD = (sys.executable, "-c", "from sweeps.dispatch.worker import serve_cells; serve_cells()")


class Answer(StrEnum):
    """What a process says of the cells that it was to train."""

    DONE = "done"  # or failed: their files say so
    BUSY = "busy"  # another job trains them
    STOPPED = "stopped"  # by a signal; their state is saved
    WAITED = "waited"  # for another job, until a signal came


class Stopped(Exception):
    """A signal came; the states of the trainings `keys` are saved. None of them: the job was waiting, not training."""

    def __init__(self, *keys: str, leads: bool = True) -> None:
        super().__init__(*keys)
        self.keys, self.leads = keys, leads


def train_side_by_side(job: CellJob, stop: StopSignals) -> list[str]:
    """Train the cells of a job in several processes: the free cells first, then those that another job was training.

    Raises:
        JobEndsError: no process of this job can train a further cell.
        Stopped: a signal came; the states of the cells in training are saved.
    """
    check_packages(job.code_root)
    runs, groups = RunStore(Path(job.runs_root)), job.groups()
    waiting: Mapping[str, Sequence[RunConfig]] = groups
    for wait_seconds in (0.0, job.wait_seconds):
        units = {
            key: [asdict(config) for config in group]
            for key, group in waiting.items()
            if not all(runs.has(config.signature) for config in group)
        }
        n_at_once = min(job.n_at_once, len(units))
        child = replace(
            job, configs=(), n_at_once=1, cells_per_gpu=n_at_once, wait_seconds=wait_seconds
        )
        if units:
            with _gpu_of(job):
                outcome = run_side_by_side(_CHILD, asdict(child), units, n_at_once, stop)
            for key, code in outcome.died.items():
                _note_death(runs, key, groups[key], code)
            if stop():
                settled = {k for k, answer in outcome.answers.items() if answer == Answer.DONE}
                if units.keys() - settled - outcome.died.keys():
                    keys = (k for k, answer in outcome.answers.items() if answer == Answer.STOPPED)
                    raise Stopped(*keys)
            waiting = {
                k: groups[k] for k, answer in outcome.answers.items() if answer == Answer.BUSY
            }
        if not (waiting and job.wait_seconds):
            break
    states = {c.signature: runs.state(c.signature, key) for key, g in groups.items() for c in g}
    return [signature for signature, state in states.items() if state.state == "failed"]


@contextmanager
def _gpu_of(job: CellJob) -> Iterator[None]:
    """Share the GPU of a job, if it has one, among the processes that are started in this context."""
    if not job.on_gpu:
        yield
        return
    with shared_gpus() as sharing:
        logger.warning("%s", sharing.text)  # the log of a job has warnings only
        yield


def _note_death(runs: RunStore, key: str, group: Sequence[RunConfig], code: int) -> None:
    """Write that the process of a training has died; one that had not begun stays missing."""
    if any(runs.state(one.signature, key).state in ("running", "lost") for one in group):
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        runs.fail(key, f"its process died ({how}), perhaps out of memory", "lost")
