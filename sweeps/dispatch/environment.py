"""The environment of workers: one thread, no other packages, no secrets, no variables of a surrounding job."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scaling.records import COMMAND_VARIABLE, user_command

__all__ = ["choose_gpus", "inside_a_job", "overriding_variables", "worker_environment"]


# The GPUs that the driver of local workers may use, by the names in its CUDA_VISIBLE_DEVICES.
_GPUS_OF_DRIVER = "SCALING_GPUS"


# sbatch stores the submitter's environment in files and gives it to every job, so secrets are removed.
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|PRIVATE_KEY", re.IGNORECASE)
# A job that is submitted from within a job would inherit that job's size and ranks.
_OF_A_JOB = re.compile(
    r"(SLURM|SLURMD|SRUN|SBATCH|SUBMITIT)_|"
    r"(MASTER_ADDR|MASTER_PORT|RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE|CUDA_VISIBLE_DEVICES)$"
)
_KEPT = ("SLURM_CONF",)  # the path of the cluster's configuration
# In sbatch these override the script: the study's resources, and the names by which jobs are found.
_OVERRIDING = frozenset(
    f"SBATCH_{name}"
    for name in (
        *("ARRAY_INX", "JOB_NAME", "OUTPUT", "ERROR", "OPEN_MODE"),
        *("REQUEUE", "NO_REQUEUE", "SIGNAL"),
        *("PARTITION", "TIMELIMIT", "MEM_PER_NODE", "MEM_PER_CPU", "MEM_PER_GPU", "EXPORT", "WAIT"),
        *("GPUS", "GPUS_PER_NODE", "GPUS_PER_TASK", "CPUS_PER_GPU", "GRES", "EXCLUSIVE"),
    )
)


def inside_a_job() -> str | None:
    """Return the id of the SLURM job that this process runs in; None if it runs in none."""
    return os.environ.get("SLURM_JOB_ID")


def overriding_variables() -> list[str]:
    """Return the variables of this shell that would override a study; `worker_environment` removes them."""
    return sorted(_OVERRIDING & os.environ.keys())


def choose_gpus() -> None:
    """Let a local worker use the GPUs that its driver has chosen for it; call it before torch is imported.

    submitit numbers GPUs from 0, while the driver may itself be limited to some: its second is not the machine's second.
    """
    names, own = os.environ.get(_GPUS_OF_DRIVER), os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if names is None or os.environ.get("SUBMITIT_EXECUTOR") != "local" or not own:
        return
    all_of_driver = names.split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(all_of_driver[int(i)] for i in own.split(","))
    del os.environ[_GPUS_OF_DRIVER]


@contextmanager
def worker_environment(code: Path | None = None) -> Iterator[None]:
    """Set the environment for workers that are started in this context, and restore it afterwards.

    Args:
        code: folder from which the workers import the four packages; None: as this process does.
    """
    before = dict(os.environ)
    wanted = {
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        COMMAND_VARIABLE: user_command(),
    }
    if code is not None:
        others = before.get("PYTHONPATH", "").split(os.pathsep)
        wanted["PYTHONPATH"] = os.pathsep.join([str(code), *filter(None, others)])
    if before.get("CUDA_VISIBLE_DEVICES"):
        wanted[_GPUS_OF_DRIVER] = before["CUDA_VISIBLE_DEVICES"]
    in_a_job = inside_a_job() is not None
    for name in before:
        of_a_job = in_a_job and _OF_A_JOB.match(name) and name not in _KEPT
        if _SECRET.search(name) or of_a_job or name in _OVERRIDING:
            del os.environ[name]
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
