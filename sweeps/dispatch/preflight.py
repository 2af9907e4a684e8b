"""Checks before anything is queued: this shell, the paths, the partition, the shared folders."""

import socket
from collections.abc import Mapping
from pathlib import Path

from scaling.errors import UserError, nearest
from sweeps.dispatch.environment import inside_a_job
from sweeps.dispatch.sbatch_resources import JobArray
from sweeps.queue import Partition, scheduler

__all__ = ["check_logs", "check_partition", "check_shared", "check_shell", "why_not_shared"]


_MEMORY = ("tmpfs", "ramfs", "devtmpfs", "overlay")
_NETWORK = (
    *("nfs", "nfs4", "lustre", "gpfs", "beegfs", "beegfs_nodev", "ceph", "cephfs", "glusterfs"),
    *("wekafs", "panfs", "orangefs", "afs", "cifs", "smb3", "9p", "pvfs2", "daos"),
)
_LOCAL_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run")


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
    # cells side by side have a core each
    cores = "cells_per_gpu" if wanted.cpus == wanted.cells_at_once > 1 else "cpus"
    for key, asked, there, unit in (
        ("gpus", wanted.gpus, found.gpus, "GPUs"),
        (cores, wanted.cpus * wanted.tasks_per_node, found.cpus, "cores"),
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


def why_not_shared(folder: Path, mounts: str | None = None) -> str | None:
    """Return why no other machine can see `folder`; None if others may see it.

    A disk of this machine may be exported to other machines, so only temporary folders and file systems in
    memory are certainly local. `mounts` has the format of /proc/mounts.
    """
    place = folder.resolve()
    kind = _file_system(place, mounts)
    if kind in _NETWORK or kind.startswith("fuse."):
        return None
    if kind in _MEMORY:
        return f"lies in the {kind} of this machine"
    for local in _LOCAL_FOLDERS:
        if place.is_relative_to(local):
            return f"lies in {local} of this machine"
    return None


def _file_system(place: Path, mounts: str | None = None) -> str:
    """Return the type of the file system that contains `place`; empty if it is unknown."""
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(encoding="utf-8")
        except OSError:
            return ""
    found, kind = Path("/"), ""
    for line in mounts.splitlines():
        _, point, this, *_ = line.split()
        mount = Path(point.replace("\\040", " "))
        if place.is_relative_to(mount) and len(mount.parts) >= len(found.parts):
            found, kind = mount, this
    return kind
