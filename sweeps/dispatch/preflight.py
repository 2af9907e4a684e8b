"""What a cluster cannot do, told before anything is queued."""

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
    """Refuse a shell from which nothing can be submitted; costs nothing, so it comes first.

    Raises:
        UserError: there is no SLURM here, or the shell is inside a job.
    """
    if not scheduler.has_slurm():
        raise UserError("--cluster slurm: there is no sbatch on the path; use --cluster local")
    if (job := inside_a_job()) and not clean_env:
        raise UserError(
            f"--cluster slurm: this shell is inside job {job}, whose environment its jobs would inherit; "
            "submit from a login node, or add --clean-env"
        )


def check_logs(folder: Path) -> None:
    """Refuse a folder of runs whose path sbatch would take for a pattern: the logs would go elsewhere.

    Raises:
        UserError: the path has a `%`.
    """
    if "%" in (path := str(folder.resolve())):
        raise UserError(
            f"{path}: SLURM expands the % in it; name another folder with --runs, or use --cluster local"
        )


def check_partition(array: JobArray, partitions: Mapping[str, Partition]) -> Partition:
    """The partition that an array goes to.

    Raises:
        UserError: it does not exist, or has no node with so many GPUs, cores or so much memory.
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
        ("cpus", wanted.cpus, found.cpus, "cores"),
        ("memory_gib", wanted.memory_mib / 1024, found.memory_mib / 1024, "GiB"),
    ):
        if asked > there:
            raise UserError(
                f"slurm.{key}: {asked:g} {unit} asked for, but no node of partition {found.name} has more "
                f"than {there:g}; set slurm.{key} or another partition, for one grade in [slurm.grades.NAME]"
            )
    return found


def check_shared(folders: Mapping[Path, str]) -> None:
    """Refuse folders that the nodes cannot see, as far as this can be known from here.

    Args:
        folders: each with what to do if it is not shared.

    Raises:
        UserError: a folder lies on a file system of this machine alone.
    """
    hosts = scheduler.node_hosts() - {socket.gethostname(), socket.gethostname().split(".")[0]}
    for folder, advice in folders.items():
        if hosts and (reason := why_not_shared(folder)):
            raise UserError(
                f"{folder}: {reason}, which {sorted(hosts)[0]} and the other nodes cannot see; {advice}"
            )
