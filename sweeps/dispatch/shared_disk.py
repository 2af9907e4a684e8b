"""Whether other machines can see a folder, as far as the mounts of this machine show it."""

from pathlib import Path

__all__ = ["file_system", "why_not_shared"]


_MEMORY = ("tmpfs", "ramfs", "devtmpfs", "overlay")
_NETWORK = (
    *("nfs", "nfs4", "lustre", "gpfs", "beegfs", "beegfs_nodev", "ceph", "cephfs", "glusterfs"),
    *("wekafs", "panfs", "orangefs", "afs", "cifs", "smb3", "9p", "pvfs2", "daos"),
)
_LOCAL_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run")


def why_not_shared(folder: Path, mounts: str | None = None) -> str | None:
    """Return why no other machine can see `folder`; None if others may see it.

    A disk of this machine may be exported to other machines, so only temporary folders and file systems in
    memory are certainly local. `mounts` has the format of /proc/mounts.
    """
    place = folder.resolve()
    kind = file_system(place, mounts)
    if kind in _NETWORK or kind.startswith("fuse."):
        return None
    if kind in _MEMORY:
        return f"lies in the {kind} of this machine"
    for local in _LOCAL_FOLDERS:
        if place.is_relative_to(local):
            return f"lies in {local} of this machine"
    return None


def file_system(place: Path, mounts: str | None = None) -> str:
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
