"""From cells of a plan to the job that trains them."""

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
) -> CellJob:
    """What a worker is given: documents and paths, nothing of ours that would have to be unpickled."""
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
    )
