"""What a worker process does: train some cells, one after the other; a failed one does not stop the next."""

import ctypes
import logging
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scaling.config import RunConfig, from_document
from scaling.errors import StorageError, UserError
from scaling.lease import RunBusyError
from scaling.records import RunStore

__all__ = ["prepare_process", "run_cells"]

logger = logging.getLogger(__name__)

# mallopt's parameters (malloc.h)
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def run_cells(data_path: str, runs_root: str, configs: Sequence[dict[str, Any]]) -> list[str]:
    """Train the cells that are not done and return the signatures that failed.

    Arguments are plain documents and paths, so that a job pickled by one version of the code says
    clearly when another one cannot read it.
    """
    from scaling.store import open_store
    from scaling.train import train_run

    device = prepare_process()
    runs = RunStore(Path(runs_root))
    failed = []
    for document in configs:
        config = from_document(RunConfig, document, "job")
        try:
            train_run(config, open_store(data_path), runs, device)
        except RunBusyError as error:
            logger.warning("%s left alone: %s", config.label, error)
        except StorageError:  # the next cell could not be written either
            raise
        except UserError as error:
            logger.error("%s failed: %s", config.label, error)
            failed.append(config.signature)
        except Exception:
            logger.exception("%s failed", config.label)
            failed.append(config.signature)
    return failed


def prepare_process() -> str:
    """Set this process up for training (one thread, memory kept) and return its device."""
    import torch

    _check_packages()
    _keep_freed_memory()
    torch.set_num_threads(1)
    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_packages() -> None:
    """Refuse to run if a folder named like one of our packages shadows it."""
    origins = [find_spec(name) for name in ("models", "scaling", "sweeps", "analysis")]
    roots = {
        str(Path(spec.origin).resolve().parents[1]) for spec in origins if spec and spec.origin
    }
    if len(roots) > 1:
        raise UserError(f"the four packages come from several places: {', '.join(sorted(roots))}")


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
