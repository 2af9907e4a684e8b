"""Checks of the machine: cores, memory and GPUs, SLURM and its partitions, the disk of the runs."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from scaling.cli.doctor.finding import Finding
from scaling.cli.doctor.installed_code import why_torch_fails
from scaling.errors import UserError

__all__ = ["check_cores", "check_disk", "check_gpus", "check_slurm"]


_MIB, _GIB = 2**20, 2**30
_LEAST_MEMORY = 4  # GiB
_LITTLE_SPACE, _NO_SPACE = 10.0, 0.5  # GiB; a checkpoint of a large grade is gigabytes
_TRIAL = 32  # MiB
_TRIAL_FILES = 20
# what SLURM's commands say where they are installed, but no cluster is
_UNCONFIGURED = "Could not establish a configuration source"
_SLOW_RATE, _SLOW_FILE = 20.0, 0.1  # MiB/s, seconds


def check_cores() -> Finding:
    """The cores that this process may use, and the memory."""
    import psutil

    memory = psutil.virtual_memory().total / _GIB
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    found = f"{cores} core{'s' * (cores != 1)}, {memory:.1f} GiB of memory"
    if memory < _LEAST_MEMORY:
        return Finding("warn", "cores", found, "train one cell at a time: --jobs 1")
    return Finding("ok", "cores", found)


def check_gpus() -> Iterator[Finding]:
    """The CUDA devices that torch sees; nothing if torch is not there or broken, which is told elsewhere."""
    has_driver = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()
    if why_torch_fails():
        return
    import torch

    built = torch.version.cuda or "no CUDA"
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            one = torch.cuda.get_device_properties(number)
            found = f"{one.name}, {one.total_memory / _GIB:.0f} GiB, torch {torch.__version__} ({built})"
            yield Finding("ok", f"GPU {number}", found)
    elif has_driver:
        found = f"there is a driver, but torch {torch.__version__} ({built}) finds no GPU"
        yield Finding(
            "warn", "GPU", found, "install the torch that pytorch.org names for the driver"
        )
    else:
        yield Finding("ok", "GPU", f"none here; torch {torch.__version__} trains on cores")


def check_slurm() -> tuple[list[Finding], bool]:
    """SLURM's commands and the partitions that it answers with, and whether this machine belongs to a cluster."""
    from sweeps.dispatch import check_shell
    from sweeps.queue import has_slurm, partitions

    advice = "`scaling run` trains on this machine"
    if not has_slurm():
        return [Finding("ok", "slurm", f"not here; {advice}")], False
    try:
        check_shell(clean_env=False)
        found = partitions()
    except UserError as error:
        if _UNCONFIGURED in str(error):
            return [
                Finding("ok", "slurm", f"its commands are here, but no cluster; {advice}")
            ], False
        return [Finding("warn", "slurm", str(error), advice)], True
    findings = []
    if not any(one.is_default for one in found.values()):
        advice = f"set slurm.partition to one of {', '.join(found)}"
        text = f"{len(found)} partitions, none is the default"
        findings.append(Finding("warn", "slurm", text, advice))
    for one in found.values():
        limit = f"{one.minutes / 60:g} h" if one.minutes < 366 * 24 * 60 else "no time limit"
        what = f"{one.gpus} GPUs, {one.cpus} cores, {one.memory_mib / 1024:.0f} GiB a node, {limit}"
        text = f"{one.name}{' (default)' * one.is_default}: {what}"
        findings.append(Finding("ok", "slurm", text))
    return findings, True


def check_disk(runs: Path, *, in_cluster: bool = False) -> Iterator[Finding]:
    """The folder of the runs: whether it can be written and nodes can see it, its speed and its free space."""
    from sweeps.dispatch import why_not_shared

    place = next(
        folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists()
    )
    advice = "give another folder with --runs or $SCALING_RUNS"
    if not place.is_dir():
        yield Finding("fail", "runs", f"{place} is a file, expected a folder", advice)
        return
    if in_cluster and (reason := why_not_shared(place)):
        yield Finding("warn", "runs", f"{runs} {reason}, which the nodes cannot see", advice)
    try:
        rate, seconds = _speed(place)
    except OSError as error:
        yield Finding("fail", "runs", f"{place}: cannot be written: {error.strerror}", advice)
        return
    found = f"{runs}: writes {rate:.0f} MiB/s, {1e3 * seconds:.2g} ms for a small file"
    if rate < _SLOW_RATE or seconds > _SLOW_FILE:
        slow = "checkpoints will take long: raise run.checkpoint_seconds, or choose a faster disk"
        yield Finding("warn", "runs", found, slow)
    else:
        yield Finding("ok", "runs", found)
    state = os.statvfs(place)
    free = state.f_bavail * state.f_frsize / _GIB
    text = f"{free:.1f} GiB free"
    if free < _NO_SPACE:
        yield Finding("fail", "space", text, "free some space, or choose another disk with --runs")
    elif free < _LITTLE_SPACE:
        yield Finding(
            "warn", "space", text, "models are kept with each run: run.keep_model = false"
        )
    else:
        yield Finding("ok", "space", text)


def _speed(folder: Path) -> tuple[float, float]:
    """Rate of writing to disk in MiB/s, and seconds for a small file with its rename; leaves nothing behind."""
    with tempfile.TemporaryDirectory(prefix=".scaling-doctor-", dir=folder) as scratch:
        block = os.urandom(_MIB)
        begin = time.perf_counter()
        with (Path(scratch) / "large").open("wb") as file:
            for _ in range(_TRIAL):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        rate = _TRIAL / (time.perf_counter() - begin)
        begin = time.perf_counter()
        for number in range(_TRIAL_FILES):
            new = Path(scratch) / "new"
            with new.open("wb") as file:
                file.write(b"{}")
                file.flush()
                os.fsync(file.fileno())
            new.rename(Path(scratch) / f"small-{number}")
        return rate, (time.perf_counter() - begin) / _TRIAL_FILES
