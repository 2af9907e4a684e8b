"""Runs the cells of a plan, on SLURM or on this machine: resources, checks, environment, the job itself, the time left.

Not here: which cells are missing (`sweeps.planning`), which jobs are queued (`sweeps.queue`).
"""

from sweeps.dispatch.benchmark_job import benchmark_on_slurm
from sweeps.dispatch.environment import overriding_variables, worker_environment
from sweeps.dispatch.local_pool import local_seconds, n_slots, run_debug, run_local
from sweeps.dispatch.preflight import check_logs, check_shared, check_shell, why_not_shared
from sweeps.dispatch.pursuit_prices import Prices
from sweeps.dispatch.sbatch_resources import plan_arrays
from sweeps.dispatch.slurm_arrays import SlurmOptions, submit_slurm, unit_of
from sweeps.dispatch.throttling import rebalance
from sweeps.dispatch.time_left import TimeLeft

__all__ = [
    "Prices",
    "SlurmOptions",
    "TimeLeft",
    "benchmark_on_slurm",
    "check_logs",
    "check_shared",
    "check_shell",
    "local_seconds",
    "n_slots",
    "overriding_variables",
    "plan_arrays",
    "rebalance",
    "run_debug",
    "run_local",
    "submit_slurm",
    "unit_of",
    "why_not_shared",
    "worker_environment",
]
