"""How a study is planned and its missing cells are trained, with progress on stderr; used by the verbs."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.cli.output import is_live, runs_root
from scaling.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scaling.config import StudyConfig
    from scaling.records import RunStore
    from sweeps.plan import Plan, PlannedCell

__all__ = ["format_duration", "load_plan", "submit_cells"]

logger = logging.getLogger(__name__)

_PROGRESS_SECONDS = 10.0


def load_plan(
    study: Path, overrides: list[str] | None, runs: Path | None, *, make_data: bool = False
) -> tuple[Plan, RunStore]:
    """Read the study and lay it out against its runs; with `make_data`, have its data there and checked.

    Raises:
        UserError: the study, its data or a record is bad; told before any data are generated.
    """
    from scaling.config import load_study
    from scaling.dataset import data_facts, ensure_data
    from scaling.records import RunStore
    from sweeps.plan import make_plan

    config: StudyConfig = load_study(study, overrides or ())
    store = RunStore(runs_root(runs) / config.name)
    try:
        made = make_plan(config, data_facts(config.data), store)
        if make_data:
            ensure_data(config.data)
            made = make_plan(config, data_facts(config.data), store)
    except UserError as error:
        if str(error).startswith(("grid", "data.")):  # a key of the study: say of which
            raise UserError(f"{study}: {error}") from error
        raise
    return made, store


def submit_cells(
    study: Path,
    overrides: list[str] | None,
    runs: Path | None,
    cluster: str,
    jobs: int | None,
    only: list[str] | None,
    limit: int | None,
    retry_failed: bool,
) -> int:
    """Train the chosen missing cells on `cluster` and return the exit code: 1 if a cell has failed.

    Raises:
        UserError: the study or an option is bad, or nothing can be written.
    """
    from sweeps.dispatch import n_slots, run_debug, run_local, submit_slurm

    if cluster not in ("local", "slurm", "debug"):
        raise UserError(
            f"--cluster {cluster}: no such cluster{nearest(cluster, ['local', 'slurm', 'debug'])}"
        )
    made, store = load_plan(study, overrides, runs, make_data=True)
    cells = _select(made, only, limit, retry_failed)
    if not cells:
        logger.info(
            "%s: nothing to do, %d of %d cells done",
            study,
            len(made.with_state("done")),
            len(made.cells),
        )
    elif cluster == "slurm":
        submission = submit_slurm(made, store, cells)
        logger.info(
            "submitted %d cells in %d jobs; see `scaling status %s`",
            len(cells),
            len(submission.jobs),
            study,
        )
        return 0
    else:
        n_jobs = jobs or n_slots()
        logger.info(
            "%s: %d of %d cells to train, about %s on %d at once",
            study,
            len(cells),
            len(made.cells),
            format_duration(sum(cell.seconds for cell in cells) / min(n_jobs, len(cells))),
            n_jobs,
        )
        watch = _Progress(made, store)
        if cluster == "local":
            run_local(made, store, cells, n_jobs=n_jobs, watch=watch)
        else:
            run_debug(made, store, cells, watch)
        watch.close()
    return _report_unfinished(made, store)


def _report_unfinished(made: Plan, store: RunStore) -> int:
    """Say which cells of the study are not done, and return the exit code."""
    states = [(cell.config, store.state(cell.config.signature)) for cell in made.cells]
    for config, state in states:
        if state.state == "failed":
            logger.error("failed: %s: %s", config.label, state.message)
    counts = Counter(state.state for _, state in states)
    if counts["failed"]:
        logger.error("%d cells failed; `--retry-failed` runs them again", counts["failed"])
    if counts["running"]:
        logger.error("%d cells are being trained by another process", counts["running"])
    if rest := counts["missing"] + counts["lost"] + counts["preempted"]:
        logger.info("%d cells are still missing", rest)
    return 1 if counts["failed"] or counts["running"] else 0


def _select(
    made: Plan, only: list[str] | None, limit: int | None, retry_failed: bool
) -> Sequence[PlannedCell]:
    states = ["missing", "lost", "preempted", *(["failed"] if retry_failed else [])]
    cells = list(made.with_state(*states))
    for condition in only or ():
        key, equals, wanted = condition.partition("=")
        columns = ("grade", "n_samples", "seed")
        if not equals or key not in columns:
            raise UserError(f"--only {condition}: expected KEY=VALUE{nearest(key, columns)}")
        name = "grade_name" if key == "grade" else key
        values = {str(getattr(c.config, name)) for c in made.cells}
        if wanted not in values:
            raise UserError(f"--only {condition}: no cell has that {key}{nearest(wanted, values)}")
        cells = [cell for cell in cells if str(getattr(cell.config, name)) == wanted]
    return sorted(cells, key=lambda cell: cell.seconds)[:limit]


class _Progress:
    """Prints where the study stands: on one live line of a terminal, else a line every ten seconds."""

    def __init__(self, made: Plan, store: RunStore) -> None:
        self._plan, self._store = made, store
        self._live = is_live()
        self._begin = time.monotonic()
        self._next = self._begin + (0.5 if self._live else _PROGRESS_SECONDS)

    def __call__(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (0.5 if self._live else _PROGRESS_SECONDS)
        self._print()

    def close(self) -> None:
        """Print the last state on a line of its own."""
        self._print()
        if self._live:
            print(file=sys.stderr)

    def _print(self) -> None:
        from sweeps.status import progress_line

        line = f"[{format_duration(time.monotonic() - self._begin)}] {progress_line(self._plan, self._store)}"
        if self._live:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            print(f"\r\x1b[K{line[: width - 1]}", end="", file=sys.stderr, flush=True)
        else:
            logger.info("%s", line)


def format_duration(seconds: float) -> str:
    """Return e.g. `3:07` or `1:03:07`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
