"""What this process has used so far: processor time and memory, since its start."""

import os
import resource
from typing import Any

from scaling.records.attempts import iso_time

__all__ = ["process_started", "process_usage"]


def process_usage() -> dict[str, Any]:
    """Return `cpu_seconds`, the processor time of all threads, and `peak_memory_gib`, the highest resident memory."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_memory_gib": round(used.ru_maxrss / 2**20, 4),
    }


def process_started() -> str | None:
    """Return when this process started, as `utc_now` writes it."""
    import psutil

    return iso_time(psutil.Process(os.getpid()).create_time())
