"""Chooses the learning-rate scan of `scaling tune`, trains its missing runs and collects their losses."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from scaling.cli.missing_packages import check_training_packages
from scaling.cli.output import counted, format_duration, format_hours
from scaling.cli.progress import sweep_progress
from scaling.cli.sweep.dispatching import Cluster
from scaling.cli.sweep.rate_table import Scanned
from scaling.documents import read_json
from scaling.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scaling.records import RunStore
    from scaling.study import DataFacts, StudyConfig
    from sweeps.planning import Corner, Plan, PlannedCell, RateScan

__all__ = ["FEWEST_RATES", "ScanRequest", "can_scan", "pick_scan", "train_scan"]


logger = logging.getLogger(__name__)

_LARGEST_SHARE = 0.25  # of the study's compute that a scan may cost without --yes
_ALWAYS_FINE = 300.0  # seconds; in a short study the starts of processes alone take a larger share
_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
_SCAN_FILE = "scan.json"
FEWEST_RATES = 3  # a parabola has three parameters


@dataclass(frozen=True)
class ScanRequest:
    """What the user asked for; None: the default.

    Attributes:
        hours: core- or GPU-hours that the scan may cost; None: a quarter of the study's, or five minutes.
    """

    grades: tuple[str, ...] | None = None
    sizes: tuple[int, ...] | None = None
    factors: tuple[float, ...] | None = None
    hours: float | None = None

    def limit(self, study_seconds: float) -> float:
        """Return how many seconds the scan may take."""
        if self.hours is not None:
            return 3600 * self.hours
        return max(_LARGEST_SHARE * study_seconds, _ALWAYS_FINE)


@dataclass(frozen=True)
class BegunScan:
    """The file `scan.json` beside the runs: what was asked for, and the scan that was chosen."""

    asked: ScanRequest
    grades: tuple[str, ...]
    sizes: tuple[int, ...]
    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what no scan can be."""
        if not self.grades or not self.sizes or min(self.sizes) < 1 or not can_scan(self.factors):
            raise ValueError("expected grades, sizes from 1 and three different factors or more")


def can_scan(factors: Sequence[float]) -> bool:
    """Whether a minimum can be found among these multiples of the recipe's rate."""
    return len(set(factors)) >= FEWEST_RATES and all(1e-6 <= factor <= 1e6 for factor in factors)


def pick_scan(
    study: StudyConfig, data: DataFacts, runs: RunStore, request: ScanRequest, study_seconds: float
) -> RateScan:
    """Return the scan that was begun in the folder `runs`, or the scan that `request` asks for.

    What is affordable depends on measured speeds, which change; so the scan that was begun goes on unless another
    one is asked for.

    Raises:
        UserError: there is no such grade or data size, or the file of the scan that was begun is damaged.
    """
    from sweeps.planning import choose_scan, make_plan, make_scan

    if (begun := _begun(runs)) and request in (ScanRequest(), begun.asked):
        try:
            return make_scan(study, data, begun.grades, begun.sizes, begun.factors)
        except UserError:
            logger.info("the scan that was begun is no longer in the study; choosing another one")

    def seconds_of(scan: RateScan) -> float:
        plan = make_plan(scan.study, data, runs)
        return _seconds(plan, _flat(scan.cells(plan, dict.fromkeys(scan.corners, scan.factors))))

    return choose_scan(
        study,
        data,
        request.factors or _FACTORS,
        grades=request.grades,
        sizes=request.sizes,
        seconds_of=seconds_of,
        limit=request.limit(study_seconds),
    )


def _begun(runs: RunStore) -> BegunScan | None:
    from scaling.strict_values import from_document

    path = runs.root / _SCAN_FILE
    try:
        document = read_json(path)
        return from_document(BegunScan, document, f"{path}: damaged; remove it")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged or cannot be read; remove it") from error


def train_scan(
    scan: RateScan,
    data: DataFacts,
    runs: RunStore,
    request: ScanRequest,
    *,
    study_seconds: float,
    cluster: Cluster,
    jobs: int | None,
    yes: bool,
    dry_run: bool,
) -> Scanned:
    """Train what is missing of a scan, and extend it where the best rate is its lowest or highest.

    With `dry_run` or on SLURM it returns once runs are missing.

    Raises:
        UserError: the price is too high without `yes`, a run failed, or another process trains it.
    """
    from scaling.study import data_facts, ensure_data
    from sweeps.planning import wider

    factors_of, is_checked = dict.fromkeys(scan.corners, scan.factors), False
    while True:
        plan, cells, missing = _read(scan, data, runs, factors_of)
        if missing:
            _log_price(plan, cells, missing, study_seconds)
            if dry_run:
                return _scanned(plan, cells, len(missing))
            _check_price(_seconds(plan, missing), request, study_seconds, yes)
            if not is_checked:
                check_training_packages()
                ensure_data(scan.study.data)
                data, is_checked = data_facts(scan.study.data), True
                plan, cells, missing = _read(scan, data, runs, factors_of)
            _write_scan(scan, runs, request)
            if cluster is Cluster.SLURM:
                _submit(scan, data, runs, {cell.config.signature for cell in missing})
                return _scanned(plan, cells, len(missing))
            _train(plan, runs, missing, cluster, jobs)
            plan, cells, _ = _read(scan, data, runs, factors_of)
            _check_all_settled(_flat(cells))
        scanned = _scanned(plan, cells, 0)
        if (wanted := wider(scan, scanned.losses)) == factors_of:
            return scanned
        factors_of = wanted


def _read(
    scan: RateScan,
    data: DataFacts,
    runs: RunStore,
    factors_of: Mapping[Corner, tuple[float, ...]],
) -> tuple[Plan, dict[Corner, dict[float, PlannedCell]], list[PlannedCell]]:
    """Return the plan of a scan, its cells at these multiples, and those of them that are not trained."""
    from sweeps.queue import survey

    plan = survey(scan.study, data, runs)
    cells = scan.cells(plan, factors_of)
    return plan, cells, [cell for cell in _flat(cells) if not _is_settled(cell)]


def _flat(cells: Mapping[Corner, Mapping[float, PlannedCell]]) -> list[PlannedCell]:
    return [cell for by_factor in cells.values() for cell in by_factor.values()]


def _has_diverged(cell: PlannedCell) -> bool:
    return cell.failure == "diverged"


def _is_settled(cell: PlannedCell) -> bool:
    return cell.state.state == "done" or _has_diverged(cell)


def _seconds(plan: Plan, cells: list[PlannedCell]) -> float:
    return sum(plan.gpu_seconds(cell) for cell in cells)


def _log_price(
    plan: Plan,
    cells: Mapping[Corner, Mapping[float, PlannedCell]],
    missing: list[PlannedCell],
    study_seconds: float,
) -> None:
    grades = dict.fromkeys(corner.grade_name for corner in cells)
    sizes = sorted({corner.n_samples for corner in cells})
    seconds = _seconds(plan, missing)
    logger.info(
        "scan: %s at %s samples, %s; %d to train, about %s core-hours (%.1f %% of the study's %s)",
        ", ".join(grades),
        ", ".join(f"{size:,}" for size in sizes),
        counted(len(_flat(cells)), "run"),
        len(missing),
        format_hours(seconds / 3600),
        100 * seconds / study_seconds,
        format_hours(study_seconds / 3600),
    )


def _check_price(seconds: float, request: ScanRequest, study_seconds: float, yes: bool) -> None:
    if yes or seconds <= request.limit(study_seconds):
        return
    limit = (
        f"{_LARGEST_SHARE:.0%} of the study's {format_hours(study_seconds / 3600)}"
        if request.hours is None
        else f"--budget-gpu-hours {request.hours:g}"
    )
    raise UserError(
        f"the scan takes about {format_hours(seconds / 3600)} core-hours, more than {limit}; "
        "choose smaller --grades and --sizes, or add --yes"
    )


def _write_scan(scan: RateScan, runs: RunStore, request: ScanRequest) -> None:
    from scaling.atomic_files import write_json

    begun = BegunScan(request, scan.grades, scan.sizes, scan.factors)
    write_json(runs.root / _SCAN_FILE, asdict(begun))


def _train(
    plan: Plan, runs: RunStore, cells: list[PlannedCell], cluster: Cluster, jobs: int | None
) -> None:
    from sweeps.dispatch import TimeLeft, local_seconds, n_slots, run_debug, run_local
    from sweeps.status import progress_of

    plan = replace(plan, cells=tuple(cells))
    n_jobs = 1 if cluster is Cluster.DEBUG else jobs or n_slots(plan, cells)
    took = format_duration(local_seconds(plan, cells, n_jobs))
    logger.info("training %s, about %s on %d at once", counted(len(cells), "run"), took, n_jobs)
    clock = TimeLeft(plan, cells, n_jobs)
    with sweep_progress(
        lambda: progress_of(plan, runs), lambda now, elapsed: clock.look(now.states, elapsed)
    ) as watch:
        if cluster is Cluster.DEBUG:
            run_debug(plan, runs, cells, watch)
        else:
            run_local(plan, runs, cells, n_jobs=n_jobs, watch=watch)


def _submit(scan: RateScan, data: DataFacts, runs: RunStore, wanted: set[str]) -> None:
    from sweeps.dispatch import SlurmOptions, check_shell, submit_slurm
    from sweeps.queue import survey

    check_shell(clean_env=False)
    _, submissions = submit_slurm(
        lambda tasks: survey(scan.study, data, runs, tasks),
        runs,
        lambda plan: [c for c in plan.cells if c.config.signature in wanted and c.goes_on],
        SlurmOptions(None, False, False, False),
    )
    n_cells = sum(len(job) for submission in submissions for job in submission.cells)
    logger.info(
        "submitted %s; call `scaling tune` again when they are done", counted(n_cells, "run")
    )


def _check_all_settled(cells: list[PlannedCell]) -> None:
    for cell in cells:
        if not _is_settled(cell):
            state = cell.state
            raise UserError(
                f"{cell.config.label} at rate {cell.config.learning_rate:.3g}: {state.state}"
                f"{': ' + state.message if state.message else ''}; "
                "`scaling tune` goes on with it when called again"
            )


def _scanned(
    plan: Plan, cells: Mapping[Corner, Mapping[float, PlannedCell]], n_missing: int
) -> Scanned:
    flat = _flat(cells)
    done = [cell for cell in flat if cell.state.state == "done"]
    soft = bool(done) and all("soft_logloss" in cell.metrics for cell in done)
    metric = "soft_logloss" if soft else "logloss"
    losses = {
        corner: {
            factor: math.inf if _has_diverged(cell) else cell.metrics.get(metric, math.inf)
            for factor, cell in by_factor.items()
        }
        for corner, by_factor in cells.items()
    }
    spent = replace(plan, cells=tuple(flat)).spent_seconds
    return Scanned(losses, len(flat), n_missing, spent, metric)
