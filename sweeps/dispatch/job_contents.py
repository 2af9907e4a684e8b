"""Makes the job that trains some cells of a plan."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from scaling.records import RunStore
from sweeps.dispatch.worker import CellJob
from sweeps.planning import Plan, PlannedCell, teacher_folders

__all__ = ["cell_job"]


def cell_job(
    plan: Plan,
    runs: RunStore,
    cells: Sequence[PlannedCell],
    *,
    wait_seconds: float = 0.0,
    code_root: Path | None = None,
    force_resume: bool = False,
    n_ranks: int = 1,
    on_gpu: bool = False,
    n_at_once: int = 1,
    cells_per_gpu: int = 1,
) -> CellJob:
    """Return the job for these cells; it holds only documents and paths, so that any version can unpickle it.

    Args:
        plan: the plan with the cells.
        runs: the study's runs folder.
        cells: the cells to train.
        wait_seconds: how long to wait for cells that another process is training.
        code_root: folder from which the worker must import the four packages; None: any.
        force_resume: continue from checkpoints of other code.
        n_ranks: tasks of the job, which train each cell together.
        on_gpu: whether the job has asked for GPUs, so that training on cores would be a mistake.
        n_at_once: cells that the job trains side by side, each in a process of its own.
        cells_per_gpu: other jobs included, the cells that share a GPU.
    """
    return CellJob(
        str(plan.data.path),
        str(runs.root),
        [asdict(cell.config) for cell in cells],
        share_prefix=plan.study.train.share_prefix,
        options=asdict(plan.study.run),
        code_root=None if code_root is None else str(code_root),
        wait_seconds=wait_seconds,
        force_resume=force_resume,
        teacher_folders=teacher_folders(plan.study),
        n_ranks=n_ranks,
        on_gpu=on_gpu,
        n_at_once=n_at_once,
        cells_per_gpu=cells_per_gpu,
    )
