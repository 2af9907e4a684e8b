"""Sets up this process for training: one thread, freed memory is reused, all packages from one folder."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from scaling.errors import UserError

__all__ = ["check_packages", "prepare_process"]


# mallopt's parameters (malloc.h)
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def prepare_process(local_rank: int | None = None) -> str:
    """Set up this process for training and return its device, `cuda` or `cpu`.

    Args:
        local_rank: of a process among those of this node that train a cell together; it takes the GPU of that number.

    Raises:
        UserError: another file hides one of the four packages, or the node has fewer GPUs than processes.
    """
    import torch

    check_packages()
    _keep_freed_memory()
    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        return "cpu"
    # its backward gives NaN for rows that read nothing and N % 128 == 64 (torch 2.11 and later, pytorch/pytorch#196678)
    torch.backends.cuda.enable_cudnn_sdp(False)
    if local_rank is None:
        return "cuda"
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank} of this node finds {torch.cuda.device_count()} GPUs; ask for one GPU for each process"
        )
    torch.cuda.set_device(local_rank)
    return f"cuda:{local_rank}"


def check_packages(root: str | None = None) -> None:
    """Check that the four packages are those beside this file, and lie in `root` if it is given.

    A file or folder with the name of a package that comes earlier on the import path would hide that package.

    Raises:
        UserError: one of them would be imported from elsewhere.
    """
    home = Path(__file__).resolve().parents[1]
    for name in ("models", "scaling", "sweeps", "analysis"):
        spec = find_spec(name)
        found = Path(spec.origin) if spec and spec.origin else None
        if found is None or found.resolve() != home / name / "__init__.py":
            places = list(spec.submodule_search_locations or []) if spec else []
            hiding = found or (places[0] if places else "nothing")
            raise UserError(
                f"{hiding} is found in place of {home / name}; rename it, or take its folder off "
                "the import path (PYTHONPATH, or the working directory)"
            )
    if root is not None and home != Path(root).resolve():
        raise UserError(
            f"the packages come from {home}, but the job was submitted from {root}; "
            "install that copy, or submit again from this one"
        )


def _keep_freed_memory() -> None:
    """Make glibc reuse freed memory; otherwise it maps the pages of large tensors anew in every step."""
    if sys.platform != "linux" or os.environ.get("MALLOC_TOP_PAD_"):
        return
    import ctypes

    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # another C library
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_TOP_PAD, 256 * 2**20)
