"""The verb `scaling tune`: fits a study's own rate law to a small scan and writes it into the study file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from scaling.cli.options import AsJson, Runs, Study, Yes
from scaling.cli.output import counted, emit, print_parts
from scaling.cli.sweep.chosen_cells import confirm
from scaling.cli.sweep.dispatching import Cluster
from scaling.cli.sweep.plan_verbs import load_plan
from scaling.cli.sweep.rate_table import Scanned, Tuned
from scaling.cli.sweep.scan_training import (
    FEWEST_RATES,
    ScanRequest,
    can_scan,
    pick_scan,
    train_scan,
)
from scaling.errors import SettingError, UserError

if TYPE_CHECKING:
    from scaling.study import RateLaw
    from sweeps.planning import Plan

__all__ = ["add_verbs"]


logger = logging.getLogger(__name__)

T = TypeVar("T")

Grades = Annotated[
    str | None,
    typer.Option(metavar="A,B,C", help="Grades to scan [default: three widths that are cheap]."),
]
Sizes = Annotated[
    str | None,
    typer.Option(metavar="N,M", help="Data sizes to scan [default: two that are cheap]."),
]
Rates = Annotated[
    str | None,
    typer.Option(
        metavar="F,G,...", help="Multiples of the recipe's rate [default: 0.25,0.5,1,2,4]."
    ),
]
ScanBudget = Annotated[
    float | None,
    typer.Option(
        "--budget-gpu-hours",
        min=0.0,
        max=1e12,
        help="GPU-hours that the scan may cost [default: a quarter of the study's, at least five minutes].",
    ),
]
OnCluster = Annotated[
    Cluster,
    typer.Option(
        "--cluster",
        help="local: processes here; slurm: jobs, call again when they are done; debug: one by one in this process.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1, help="Runs to train at once; local only [default: number of GPUs, else of cores]."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Train and write nothing; show what would be done.")
]


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("tune")(tune)


def tune(
    study: Study,
    grades: Grades = None,
    sizes: Sizes = None,
    rates: Rates = None,
    budget: ScanBudget = None,
    cluster: OnCluster = Cluster.LOCAL,
    jobs: Jobs = None,
    runs: Runs = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Scan a few learning rates at the cheap corners of a study, fit a rate law, and write it into the study file.

    The runs are those of a study NAME-tune; finished ones are only read. The law is written if the largest cost
    of the rule so far at a scanned corner is more than 0.001 of logloss above the law's, beyond the noise of the scan. See docs/recipe.md.

    Example: scaling tune studies/quickstart.toml --dry-run
    """
    from scaling.records import RunStore

    request = ScanRequest(
        _listed("--grades", grades, str),
        _listed("--sizes", sizes, int),
        _listed("--rates", rates, float),
        budget,
    )
    _check_numbers(request)
    made, store = load_plan(study, None, runs)
    _check_tunable(study, made, dry_run)
    config, data = made.study, made.data
    own = RunStore(store.root.with_name(f"{config.name}-tune"))
    whole = sum(made.gpu_seconds(cell) for cell in made.cells)
    try:
        scan = pick_scan(config, data, own, request, whole)
        scanned = train_scan(
            scan,
            data,
            own,
            request,
            study_seconds=whole,
            cluster=cluster,
            jobs=jobs,
            yes=yes,
            dry_run=dry_run,
        )
    except SettingError as error:
        raise UserError(f"{study}: {error}") from error
    if scanned.n_missing:
        if dry_run:
            logger.info("%s to train first; nothing was trained", counted(scanned.n_missing, "run"))
        if as_json:
            counts = {"n_runs": scanned.n_runs, "n_missing": scanned.n_missing}
            emit([], {"study": config.name, **counts, "written": False}, as_json=True)
        return
    tuned = _fit(made, scanned, whole)
    _conclude(study, made, tuned, dry_run=dry_run, yes=yes, as_json=as_json)


def _listed(option: str, text: str | None, kind: Callable[[str], T]) -> tuple[T, ...] | None:
    """Return the values of an option `a,b,c`.

    Raises:
        UserError: a value is missing, is given twice or is not of that kind.
    """
    if text is None:
        return None
    try:
        values = tuple(kind(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"{option} {text}: expected numbers with commas between them") from error
    if not all(part.strip() for part in text.split(",")):
        raise UserError(f"{option} {text}: a value is empty")
    if len(set(values)) < len(values):
        raise UserError(f"{option} {text}: a value is given twice")
    return values


def _check_numbers(request: ScanRequest) -> None:
    """Check that sizes and rates are positive, and that there are enough rates.

    Raises:
        UserError: they are not.
    """
    if any(size < 1 for size in request.sizes or ()):
        raise UserError(f"--sizes {','.join(map(str, request.sizes or ()))}: expected sizes from 1")
    factors = request.factors
    if factors is None:
        return
    if not can_scan(factors):
        raise UserError(
            f"--rates {','.join(f'{f:g}' for f in factors)}: expected at least {FEWEST_RATES} positive multiples of "
            "the recipe's rate, from 1e-6 to 1e6, e.g. 0.5,1,2"
        )


def _check_tunable(path: Path, made: Plan, dry_run: bool) -> None:
    """Check that a rate law would change the study's rates, and that it can be written.

    Raises:
        UserError: it would not, or it cannot.
    """
    for key, is_there in (
        ("train.learning_rate", made.study.train.learning_rate is not None),
        ("grid.train.learning_rate", "train.learning_rate" in made.study.grid.axes),
    ):
        if is_there:
            raise UserError(
                f"{path}: {key} sets the rates of this study, so a rate law would change nothing; remove the key first"
            )
    if not dry_run and not os.access(path.resolve().parent, os.W_OK):
        raise UserError(f"{path}: its folder cannot be written; --dry-run only shows the law")


def _fit(made: Plan, scanned: Scanned, study_seconds: float) -> Tuned:
    from analysis.study_results import ScannedRates, find_best_rates, fit_rate_law
    from sweeps.planning import shares_rate

    scans = [
        ScannedRates(
            corner.token_width,
            corner.rate_samples,
            tuple(factor * corner.rule for factor in sorted(by_factor)),
            tuple(by_factor[factor] for factor in sorted(by_factor)),
        )
        for corner, by_factor in scanned.losses.items()
    ]
    best = find_best_rates(scans)
    one_rate = shares_rate(made.study)
    fit = fit_rate_law(best, [corner.rule for corner in scanned.losses], one_rate=one_rate)
    configs = [cell.config for cell in made.cells]
    widths = max(config.grade.d for config in configs) * len(made.data.schema.behaviour)
    sizes = max(config.n_samples for config in configs)
    reach = (widths, fit.law.n_samples if one_rate else sizes)
    return Tuned(scanned, best, fit, made.study.train.rate_law, study_seconds, reach)


def _change(path: Path, law: RateLaw) -> tuple[str, str]:
    """Return the new text of the study file, and its differences from the present text."""
    from scaling.study import with_rate_law

    try:
        with path.open(encoding="utf-8", newline="") as file:
            old = file.read()
        new = with_rate_law(old, law)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    lines = unified_diff(old.splitlines(), new.splitlines(), str(path), str(path), lineterm="")
    return new, "\n".join(lines)


def _write(path: Path, text: str) -> None:
    """Replace the study file, after a check that it can be read as a study."""
    from scaling.atomic_files import atomic_path
    from scaling.study import load_study

    path = path.resolve()  # a link stays one
    with atomic_path(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
        temporary.chmod(path.stat().st_mode & 0o777)
        load_study(temporary)


def _conclude(
    path: Path, made: Plan, tuned: Tuned, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Print the law with its costs and its price, and write it if it is better than the rule so far."""
    from scaling.atomic_files import json_values

    text, change = ("", "") if tuned.why_not else _change(path, tuned.fit.law)
    if not as_json:
        print_parts([*tuned.text(), *(["", change] if change else [])])
    if change and not dry_run:
        n_done = len(made.with_standing("done"))
        question = (
            f"{path}: {counted(n_done, 'finished run')} of the study had the rates so far; with the law the study "
            "trains new ones. Write the law?"
        )
        if n_done and not confirm(question, yes):
            raise typer.Exit(1)
        _write(path, text)
    if as_json:
        written = bool(change) and not dry_run
        document = {"study": made.study.name, **tuned.document(change=change, written=written)}
        emit([], json_values(document), as_json=True)
    if not change:
        logger.info("%s: not changed, %s", path, tuned.why_not)
    elif dry_run:
        logger.info("%s: not changed (--dry-run)", path)
    else:
        logger.info("%s: [train.rate_law] written", path)
