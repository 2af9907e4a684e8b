"""Checks before anything is queued: this shell, the paths, the partition, the shared folders."""

import socket
from collections.abc import Mapping
from pathlib import Path

from scaling.errors import UserError, nearest
from sweeps.dispatch.environment import inside_a_job
from sweeps.dispatch.sbatch_resources import JobArray
from sweeps.dispatch.shared_disk import why_not_shared
from sweeps.queue import Partition, scheduler

__all__ = ["check_logs", "check_partition", "check_shared", "check_shell"]


def check_shell(*, clean_env: bool) -> None:
    """Check that this shell can submit jobs; it is the first check, because it takes no time.

    Raises:
        UserError: there is no SLURM here, or the shell is inside a job.
    """
    if not scheduler.has_slurm():
        raise UserError(
            "there is no sbatch on the path; submit from a node of the cluster, or train on this machine"
        )
    if (job := inside_a_job()) and not clean_env:
        raise UserError(
            f"this shell is inside job {job}, and the submitted jobs would inherit its environment; "
            "submit from a login node, or with clean_env"
        )


def check_logs(folder: Path) -> None:
    """Check that sbatch does not read the path of the runs as a pattern, which would put the logs elsewhere.

    Raises:
        UserError: the path has a `%`.
    """
    if "%" in (path := str(folder.resolve())):
        raise UserError(
            f"{path}: SLURM expands the % in it; choose another folder of runs, or train on this machine"
        )


def check_partition(array: JobArray, partitions: Mapping[str, Partition]) -> Partition:
    """Return the partition that an array is submitted to.

    Raises:
        UserError: it does not exist, or none of its nodes has enough GPUs, cores or memory.
    """
    wanted = array.resources
    if wanted.partition is None:
        default = next((p for p in partitions.values() if p.is_default), None)
        if default is None:
            raise UserError(
                f"slurm.partition: the cluster has no default; name one of {', '.join(partitions)}"
            )
        found = default
    elif wanted.partition in partitions:
        found = partitions[wanted.partition]
    else:
        raise UserError(
            f"slurm.partition: there is no partition {wanted.partition}"
            f"{nearest(wanted.partition, partitions)}"
        )
    for key, asked, there, unit in (
        ("gpus", wanted.gpus, found.gpus, "GPUs"),
        ("cpus", wanted.cpus * wanted.tasks_per_node, found.cpus, "cores"),
        ("memory_gib", wanted.memory_mib / 1024, found.memory_mib / 1024, "GiB"),
    ):
        if asked > there:
            raise UserError(
                f"slurm.{key}: {asked:g} {unit} requested, but no node of partition {found.name} has more than "
                f"{there:g}; change slurm.{key} or slurm.partition, for one grade in [slurm.grades.NAME]"
            )
    return found


def check_shared(folders: Mapping[Path, str]) -> None:
    """Check that the nodes can see the folders, as far as this machine can know.

    Args:
        folders: each with the advice for the case that it is not shared.

    Raises:
        UserError: a folder is on a file system that only this machine has.
    """
    hosts = scheduler.node_hosts() - {socket.gethostname(), socket.gethostname().split(".")[0]}
    for folder, advice in folders.items():
        if hosts and (reason := why_not_shared(folder)):
            raise UserError(
                f"{folder}: {reason}, which {sorted(hosts)[0]} and the other nodes cannot see; {advice}"
            )
