"""The plan of a study: its cells, their costs and states. Only reads, knows no scheduler, needs no torch.

`benchmark` measures speeds with torch and is therefore imported by name. Not here: SLURM
(`sweeps.queue`, `sweeps.dispatch`).
"""

from sweeps.planning.cell_standing import PlannedCell
from sweeps.planning.cost_estimate import (
    Throughput,
    guess_text,
    keep_benchmarks,
    read_benchmarks,
)
from sweeps.planning.grid import check_models, grid_cells
from sweeps.planning.job_state import Ending, EndingKind, QueuedJob
from sweeps.planning.plan import Plan, make_plan
from sweeps.planning.rate_scan import (
    Corner,
    RateScan,
    choose_scan,
    make_scan,
    shares_rate,
    wider,
)
from sweeps.planning.run_history import History, read_history
from sweeps.planning.several_ranks import shares_table, speed_up, steps_in_parts
from sweeps.planning.teacher_runs import teacher_folders, warn_of_teachers

__all__ = [
    "Corner",
    "Ending",
    "EndingKind",
    "History",
    "Plan",
    "PlannedCell",
    "QueuedJob",
    "RateScan",
    "Throughput",
    "check_models",
    "choose_scan",
    "grid_cells",
    "guess_text",
    "keep_benchmarks",
    "make_plan",
    "make_scan",
    "read_benchmarks",
    "read_history",
    "shares_rate",
    "shares_table",
    "speed_up",
    "steps_in_parts",
    "teacher_folders",
    "warn_of_teachers",
    "wider",
]
