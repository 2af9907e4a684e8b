"""NVIDIA's Multi-Process Service (MPS) for the processes that share the GPUs of a job, or of a local sweep.

Without it, a GPU runs one process at a time, in slices of time; with it, their kernels run at the same time.
Source: NVIDIA, Multi-Process Service, https://docs.nvidia.com/deploy/mps/ (daemon, environment variables, 48 clients).
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GpuSharing", "quit_own_daemon", "shared_gpus"]


_CONTROL = "nvidia-cuda-mps-control"
_PIPES, _LOGS, _VISIBLE = (
    "CUDA_MPS_PIPE_DIRECTORY",
    "CUDA_MPS_LOG_DIRECTORY",
    "CUDA_VISIBLE_DEVICES",
)
# The folder of a daemon that a job has started: its processes may end it.
_OWN_FOLDER = "SCALING_MPS_FOLDER"
_SECONDS_FOR_THE_DAEMON = 60.0


@dataclass(frozen=True)
class GpuSharing:
    """How processes share GPUs; `text` says it to the user."""

    by_mps: bool
    text: str


@contextmanager
def shared_gpus() -> Iterator[GpuSharing]:
    """Start MPS for the processes that are started in this context, if this machine has it; end it with the context.

    Its pipes and logs are in a new folder, so it meets no other MPS of the machine. One that the environment names
    (the site's own) is used as it is. This process must not use the GPU before.
    """
    if pipes := os.environ.get(_PIPES):
        yield GpuSharing(True, f"GPU shared by the MPS of this environment ({_PIPES}={pipes})")
        return
    if shutil.which(_CONTROL) is None:
        yield GpuSharing(False, f"GPU shared in slices of time: there is no {_CONTROL} on the path")
        return
    # in /tmp: the path of a socket may have 107 characters at most, and the folder must be on this machine
    folder = Path(tempfile.mkdtemp(prefix="mps-", dir="/tmp"))
    before = {name: os.environ.get(name) for name in (_PIPES, _LOGS, _VISIBLE, _OWN_FOLDER)}
    os.environ |= {_PIPES: str(folder), _LOGS: str(folder), _OWN_FOLDER: str(folder)}
    try:
        refusal = _control("-d")
        if refusal is not None:
            _restore(before)
            yield GpuSharing(False, f"GPU shared in slices of time: MPS did not start ({refusal})")
        else:
            _number_as_the_daemon_does()
            yield GpuSharing(True, f"GPU shared by MPS, started for this job in {folder}")
    finally:
        quit_own_daemon()
        _restore(before)
        shutil.rmtree(folder, ignore_errors=True)


def quit_own_daemon() -> None:
    """End the MPS that this job has started, if it has; nothing otherwise."""
    if folder := os.environ.pop(_OWN_FOLDER, None):
        _control(text="quit\n")
        shutil.rmtree(folder, ignore_errors=True)


def _control(*options: str, text: str | None = None) -> str | None:
    """Call the control program; return why it failed, None if it did not."""
    try:
        # a file takes what the daemon prints later: a pipe would stay open as long as it runs
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            done = subprocess.run(
                [_CONTROL, *options],
                input=text,
                stdout=output,
                stderr=output,
                text=True,
                timeout=_SECONDS_FOR_THE_DAEMON,
                check=False,
            )
            output.seek(0)
            lines = output.read().strip().splitlines()
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return lines[-1] if lines else f"exit code {done.returncode}"


def _number_as_the_daemon_does() -> None:
    """Number the GPUs of the coming processes from 0: the daemon shows them those that it was started with."""
    names = os.environ.get(_VISIBLE, "").split(",")
    if all(name.strip().isdigit() for name in names):
        os.environ[_VISIBLE] = ",".join(str(i) for i in range(len(names)))


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
