"""Set up this process for training: one thread, freed memory kept, packages from one place."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.errors import UserError

if TYPE_CHECKING:
    pass

__all__ = ["prepare_process"]


# mallopt's parameters (malloc.h)
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def prepare_process() -> str:
    """Set this process up for training (one thread, memory kept) and return its device."""
    import torch

    check_packages()
    _keep_freed_memory()
    torch.set_num_threads(1)
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_packages(root: str | None = None) -> None:
    """Refuse to run unless the four packages come from one place, which is `root` if that is given.

    A folder named like one of them in the working directory would shadow it.
    """
    origins = [find_spec(name) for name in ("models", "scaling", "sweeps", "analysis")]
    found = {
        str(Path(spec.origin).resolve().parents[1]) for spec in origins if spec and spec.origin
    }
    if len(found) > 1:
        raise UserError(f"the four packages come from several places: {', '.join(sorted(found))}")
    if root is not None and found != {str(Path(root).resolve())}:
        raise UserError(
            f"the packages come from {', '.join(found)}, but the job was submitted from {root}; "
            "install that copy, or submit again from this one"
        )


def _keep_freed_memory() -> None:
    """Tell glibc to reuse freed memory: large tensors are otherwise mapped and faulted in every step."""
    if sys.platform != "linux" or os.environ.get("MALLOC_TOP_PAD_"):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # another C library
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_TOP_PAD, 256 * 2**20)
