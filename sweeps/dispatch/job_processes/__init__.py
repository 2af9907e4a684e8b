"""The processes of a job: signals that stop them, several side by side, NVIDIA's MPS for those on one GPU.

Not here: what they train (`sweeps.dispatch.worker`), processes that train a cell together (`scaling.training`).
"""

from sweeps.dispatch.job_processes.cells_of_a_pack import Answer, Stopped, train_side_by_side
from sweeps.dispatch.job_processes.mps_daemon import quit_own_daemon, shared_gpus
from sweeps.dispatch.job_processes.stop_signals import StopSignals
from sweeps.dispatch.job_processes.unit_server import JobEndsError, serve_units

__all__ = [
    "Answer",
    "JobEndsError",
    "StopSignals",
    "Stopped",
    "quit_own_daemon",
    "serve_units",
    "shared_gpus",
    "train_side_by_side",
]
