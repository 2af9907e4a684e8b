"""Workers of a sharded import on this machine: this process, or several."""

import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress

from scaling.errors import UserError
from scaling.importers.pipeline.sharded.job_order import work_off
from scaling.importers.pipeline.sharded.work_folder import ShardedImport

__all__ = ["local_workers"]


_SECONDS_BETWEEN_LOOKS = 0.1


def local_workers(n_workers: int) -> Callable[[ShardedImport, Callable[[], None]], None]:
    """Return a function that works an import off: in this process if `n_workers` is 1, else in as many others.

    The function calls its second argument now and then.

    Raises:
        UserError: a process was killed.
    """

    def run(job: ShardedImport, watch: Callable[[], None]) -> None:
        if n_workers == 1:
            work_off(job, "this process", watch=watch)
        else:
            _run_processes(job, n_workers, watch)

    return run


def _run_processes(job: ShardedImport, n_workers: int, watch: Callable[[], None]) -> None:
    # not forked: the engine's threads would be missing
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_work, args=(job, f"process {number}"), daemon=True)
        for number in range(n_workers)
    ]
    try:
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            watch()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            if any(worker.exitcode for worker in workers):
                break
    finally:
        for worker in workers:
            with suppress(ValueError):
                worker.terminate()
        for worker in workers:
            worker.join()
    code = next((worker.exitcode for worker in workers if (worker.exitcode or 0) < 0), None)
    if code is not None and not job.has_failed():
        raise UserError(
            f"a process of the import was ended by signal {-code} (9: often too little memory, see --memory); "
            "the same command goes on from here"
        )


def _work(job: ShardedImport, owner: str) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    with suppress(KeyboardInterrupt):
        work_off(job, owner, goes_on=parent.is_alive)
