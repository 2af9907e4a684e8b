"""Verbs to use before training: `scaling plan` (cells and costs) and `scaling benchmark` (measured speeds)."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.missing_packages import check_training_packages
from scaling.cli.options import AsJson, Budget, Output, Overrides, Runs, Study
from scaling.cli.output import counted, emit, format_duration, format_hours, runs_root
from scaling.cli.progress import stopped_cleanly, waiting_line
from scaling.cli.tables import Table
from scaling.errors import SettingError, UserError

if TYPE_CHECKING:
    from scaling.records import RunStore
    from scaling.study import StudyConfig
    from sweeps.planning import Plan, Throughput
    from sweeps.queue import QueuedTask, SilentSchedulerError

__all__ = ["add_verbs", "check_budget", "load_plan", "load_study_and_store", "warn_about"]


logger = logging.getLogger(__name__)

_PLAN_COLUMNS = {
    "signature": "cell",
    "grade": "grade",
    "n_samples": "n_samples",
    "seed": "seed",
    "n_params": "n_params",
    "n_embedding_params": "embedding",
    "flops": "flops",
    "batch_size": "batch",
    "estimated_seconds": "seconds",
    "estimated_gpu_hours": "gpu_hours",
    "estimated_memory_gib": "gib",
    "estimate": "estimate",
    "state": "state",
    "why": "why",
}
STANDINGS = (
    "done",
    "damaged",
    "running",
    "queued",
    "failed",
    "lost",
    "preempted",
    "changed",
    "missing",
)


class BenchmarkCluster(StrEnum):
    """Where grades are measured."""

    LOCAL = "local"
    SLURM = "slurm"


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    for verb in (plan, benchmark):
        app.command(verb.__name__)(verb)


def load_study_and_store(
    study: Path, overrides: list[str] | None, runs: Path | None
) -> tuple[StudyConfig, RunStore]:
    """Read the study and open the folder of its runs.

    Raises:
        UserError: the study file cannot be read or has a wrong key or value.
    """
    from scaling.records import RunStore
    from scaling.study import load_study

    config = load_study(study, overrides or ())
    return config, RunStore(runs_root(runs) / config.name)


def load_plan(
    study: Path,
    overrides: list[str] | None,
    runs: Path | None,
    *,
    make_data: bool = False,
    reading: bool = False,
    tasks: Sequence[QueuedTask] | SilentSchedulerError | None = None,
) -> tuple[Plan, RunStore]:
    """Read the study and compare its grid with its runs and its queued jobs.

    Args:
        study: a study file.
        overrides: `section.key=value` texts.
        runs: folder of all runs, or None for the default.
        make_data: also generate the study's data if they are missing, and check them. If there are cells to
            train, the packages for it are checked before.
        reading: for a verb that neither plans nor trains; classes from elsewhere are then not run on small passes.
        tasks: the answer of SLURM's queue, if it is known already.

    Raises:
        UserError: the study, its data or a record is bad, or a package is missing; raised before any data
            are generated.
    """
    from scaling.study import data_facts, ensure_data
    from sweeps.planning import check_models
    from sweeps.queue import survey

    config, store = load_study_and_store(study, overrides, runs)
    try:
        made = survey(config, data_facts(config.data), store, tasks)
        if not reading:
            check_models((c.config for c in made.cells if c.state.state != "done"), made.data)
        if make_data:
            if any(cell.goes_on for cell in made.cells):
                check_training_packages()
            ensure_data(config.data)
            if made.data.fingerprint is None:
                made = survey(config, data_facts(config.data), store, tasks)
            _remove_leftovers(made, store)
    except SettingError as error:
        raise UserError(f"{study}: {error}") from error
    for text in (
        made.damaged if tasks is None else ()
    ):  # not at each look of a live view, which shows them
        logger.warning("warning: %s", text)
    return made, store


def _remove_leftovers(made: Plan, store: RunStore) -> None:
    """Remove what processes left behind that were killed after they had written the record."""
    from scaling.records import remove_leftovers

    stale = made.study.run.stale_seconds
    for unit in made.units(made.cells):
        if all(cell.state.state == "done" for cell in unit):
            for name in dict.fromkeys([unit[0].key, *(cell.config.signature for cell in unit)]):
                remove_leftovers(store.folder(name), stale)


def warn_about(made: Plan) -> None:
    """Log warnings about a plan; called by the verbs that print or start a plan, not by `status`."""
    from sweeps.planning import warn_of_teachers

    warn_of_teachers(made.study, [cell.config for cell in made.cells], made.data)


def plan(
    study: Study,
    overrides: Overrides = None,
    runs: Runs = None,
    budget: Budget = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Print every cell with its size, cost and state, and why it will run or not; write nothing.

    Also what the analysis of this grid could not tell, and how wide its intervals would be.

    Times are estimated from finished runs of the grade, else from `scaling benchmark`, else from the
    work of a step and the speed of this machine (a guess).

    Example: scaling plan studies/quickstart.toml --budget-gpu-hours 2
    """
    from scaling.cli.plan_outlook import outlook_of

    made, store = load_plan(study, overrides, runs)
    warn_about(made)
    outlook = outlook_of(made, store.root)
    totals = {
        "n_cells": len(made.cells),
        "states": dict(Counter(cell.standing for cell in made.cells)),
        "flops_to_do": sum(cell.flops for cell in made.cells if cell.state.state != "done"),
        "gpu_hours_spent": made.spent_seconds / 3600,
        "gpu_hours_to_do": made.seconds / 3600,
        "budget_gpu_hours": budget,
        "n_samples": sum(cell.config.n_samples for cell in made.cells),
        "n_samples_trained": made.n_trained,
        "jobs_of_shared_gpus": _shared_gpus(made),
    }
    text = [] if as_json else [*_plan_text(made, budget), *outlook.lines()]
    document = {
        "study": made.study.name,
        "cells": made.rows() if as_json else [],
        "totals": totals,
        "outlook": outlook.document(),
    }
    emit(text, document, as_json=as_json, output=output)
    if budget is not None and made.spent_seconds + made.seconds > 3600 * budget:
        raise typer.Exit(1)


def benchmark(
    study: Annotated[
        Path | None,
        typer.Argument(
            metavar="[STUDY]", help="A study with the grades, options and data to time."
        ),
    ] = None,
    grade: Annotated[
        list[str] | None,
        typer.Option(
            "--grade", help="Only this grade; repeatable. Without STUDY: a grade of the ladder."
        ),
    ] = None,
    overrides: Overrides = None,
    runs: Runs = None,
    steps: Annotated[
        int,
        typer.Option(
            min=3, help="Steps to time, per grade and size; fewer if they take over 20 s."
        ),
    ] = 20,
    cluster: Annotated[
        BenchmarkCluster,
        typer.Option("--cluster", help="local: here; slurm: in a job on the study's partition."),
    ] = BenchmarkCluster.LOCAL,
    wait_minutes: Annotated[
        float, typer.Option(min=1.0, help="With slurm: how long a job may wait in the queue.")
    ] = 120.0,
    as_json: AsJson = False,
) -> None:
    """Time a few steps of each grade on the device that will train it, for `scaling plan`.

    With `--cluster slurm` a job measures on a node of the study's partition, with the study's resources; the verb waits
    for it, and an interrupt cancels it. Otherwise this machine is measured. Without a study the data are small
    generated logs. `mfu` is the model's FLOPs per second as a share of the peak in the device's data sheet; on a CPU
    and an unknown GPU, of the rate of a large matrix product. The results are stored in RUNS/benchmark.json.

    Example: scaling benchmark studies/quickstart.toml --grade W16
    """
    from dataclasses import asdict

    if study is None and not grade:
        raise UserError("benchmark: name a study, or grades of the ladder with --grade")
    if cluster is BenchmarkCluster.LOCAL:
        from sweeps.planning.benchmark import benchmark_grades

        config = None if study is None else load_study_and_store(study, overrides, runs)[0]
        with redirect_stdout(sys.stderr):  # what a class from elsewhere prints
            measured = benchmark_grades(config, grade, runs_root(runs), n_steps=steps)
    elif study is None:
        raise UserError("--cluster slurm: name a study; its [slurm] says what the job asks")
    else:
        measured = _benchmark_on_slurm(study, overrides, runs, grade, steps, 60 * wait_minutes)
    rows = [
        {
            "grade": name,
            "node": one.node,
            "device": one.device,
            "packing": one.packing,
            "ms_per_step": 1e3 * one.step_seconds,
            "us_per_sample": 1e6 * one.sample_seconds,
            "evaluation_us": 1e6 * one.evaluation_sample_seconds,
            "start_seconds": one.start_seconds,
            "peak_gib": one.peak_memory_gib,
            "mfu": one.mfu,
            "mfu_of": "data sheet" if one.product_flops_per_second is None else "product",
        }
        for name, one in measured
    ]
    table = Table(list(rows[0]), [list(row.values()) for row in rows])
    emit(table, [{"name": name, **asdict(one)} for name, one in measured], as_json=as_json)


def _benchmark_on_slurm(
    study: Path,
    overrides: list[str] | None,
    runs: Path | None,
    grades: Sequence[str] | None,
    n_steps: int,
    wait_seconds: float,
) -> list[tuple[str, Throughput]]:
    from sweeps.dispatch import benchmark_on_slurm, check_shell
    from sweeps.planning import keep_benchmarks

    try:
        check_shell(clean_env=False)  # before any data are generated
    except UserError as error:
        raise UserError(f"--cluster slurm: {error}") from error
    made, store = load_plan(study, overrides, runs, make_data=True)
    with stopped_cleanly(), waiting_line() as show:
        measured = benchmark_on_slurm(
            made, store, grades, show, n_steps=n_steps, wait_seconds=wait_seconds
        )
    keep_benchmarks(store.root.parent, [one for _, one in measured])
    return measured


def check_budget(made: Plan, seconds: float, budget: float | None) -> None:
    """Check that the time spent and `seconds` more are within the budget (GPU-hours, None: no limit).

    Raises:
        UserError: the budget would be exceeded.
    """
    if budget is None:
        return
    spent, planned = made.spent_seconds / 3600, seconds / 3600
    if spent + planned > budget:
        raise UserError(
            f"--budget-gpu-hours {budget:g}: {format_hours(spent)} spent and {format_hours(planned)} estimated make "
            f"{format_hours(spent + planned)} GPU-hours; submit fewer cells with --limit or --only, or raise the budget"
        )


def _rank_lines(made: Plan) -> list[str]:
    """How many processes train the cells of a grade together, for grades with several, whether they divide its table, and what does not fit a GPU at once."""
    from sweeps.planning import shares_table, steps_in_parts

    lines = []
    memory, schema = made.study.run.device_memory_gib, made.data.schema
    by_grade: dict[str, list[Any]] = {}
    for cell in made.cells:
        by_grade.setdefault(cell.config.grade_name, []).append(cell.config)
    for grade, configs in by_grade.items():
        own = made.study.slurm.of_grade(grade)
        if own.n_ranks > 1:
            each = counted(own.gpus, "GPU") if own.gpus else counted(own.n_tasks, "task")
            text = f"{grade}: {own.n_ranks} ranks train each cell together, {counted(own.nodes, 'node')} with {each}"
            divided = [c for c in configs if shares_table(c, schema, own.n_ranks, memory)]
            if divided:
                table = max(c.held_size(schema).table_bytes for c in divided) / 2**30
                of = (
                    ""
                    if len(divided) == len(configs)
                    else f" of {len(divided)} of {len(configs)} cells"
                )
                text += f"; they divide the feature tables{of}, up to {table:.3g} GiB with their moments"
            lines.append(text)
        if own.gpus and memory is not None:
            room = memory / own.cells_per_gpu
            uses = [steps_in_parts(c, schema, own.n_ranks, room) for c in configs]
            n_parts = max(n for n, _ in uses)
            again = (
                ", blocks computed again in the backward pass" if any(r for _, r in uses) else ""
            )
            if n_parts > 1 or again:
                lines.append(f"{grade}: a step in up to {counted(n_parts, 'part')} on a GPU{again}")
    return lines


def _shared_gpus(made: Plan) -> list[dict[str, Any]]:
    """The jobs to come whose cells share a GPU: a document for each resource class."""
    from sweeps.dispatch import plan_arrays, unit_of

    slurm = made.study.slurm
    if all(slurm.of_grade(name).cells_per_gpu == 1 for name in made.study.grid.grade):
        return []
    units = made.units([cell for cell in made.cells if cell.state.state != "done"])
    arrays = plan_arrays(slurm, [unit_of(unit) for unit in units], made.start_seconds)
    return [
        {
            "cells_at_once": array.resources.cells_at_once,
            "n_cells": sum(len(job.signatures) for job in array.jobs),
            "n_jobs": len(array.jobs),
            "cpus": array.resources.cpus,
            "memory_mib": array.resources.memory_mib,
            "minutes": array.resources.minutes,
            "gpu_hours": array.seconds / 3600,
            "measured_side_by_side": all(u.n_beside > 1 for job in array.jobs for u in job.units),
        }
        for array in arrays
        if array.resources.cells_at_once > 1
    ]


def _sharing_lines(made: Plan) -> list[str]:
    """What the jobs whose cells share a GPU would ask, and what their times are based on."""
    lines = []
    for one in _shared_gpus(made):
        each = f"{one['cpus']} cores and {one['memory_mib'] / 1024:g} GiB"
        basis = (
            "measured side by side"
            if one["measured_side_by_side"]
            else "as if trained one after the other, since none were measured side by side"
        )
        lines.append(
            f"on SLURM: {counted(one['n_cells'], 'cell')} in {counted(one['n_jobs'], 'job')} with one GPU, {each} for "
            f"{one['cells_at_once']} cells side by side; about {format_hours(one['gpu_hours'])} GPU-hours, {basis}"
        )
    return lines


def _plan_text(made: Plan, budget: float | None) -> list[str | Table]:
    from sweeps.planning import guess_text

    columns = dict(_PLAN_COLUMNS)
    columns |= {axis: axis for axis in made.study.grid.axes}
    documents = made.rows()
    if all(row["why"] in ("", "will run") for row in documents):
        del columns["why"]
    rows = [[_short(key, row[key]) for key in columns] for row in documents]
    counts = Counter(cell.standing for cell in made.cells)
    states = ", ".join(f"{counts[name]} {name}" for name in STANDINGS if counts[name])
    flops = sum(cell.flops for cell in made.cells if cell.state.state != "done")
    on_gpu = made.study.slurm.gpus > 0
    lines = [
        f"{counted(len(made.cells), 'cell')}: {states}",
        f"to do: {flops:.2e} training FLOPs, about {format_duration(made.seconds)} of one core or GPU "
        f"({format_hours(made.seconds / 3600)} GPU-hours), including {made.start_seconds:.0f} s to start each cell",
        f"spent: {format_hours(made.spent_seconds / 3600)} GPU-hours",
    ]
    lines += _rank_lines(made)
    lines += _sharing_lines(made)
    if made.study.train.recipe == 1:
        lines.append(
            "recipe: version 1, that of the finished runs or of the study file; "
            "with train.recipe = 2 every cell is trained anew"
        )
    guessed = sum(1 for c in made.cells if c.source == "guess" and c.state.state != "done")
    if guessed:
        where = " --cluster slurm" if on_gpu else ""
        lines.append(
            f"{counted(guessed, 'time')} guessed at {guess_text(on_gpu)}; `scaling benchmark{where}` measures them"
        )
    if made.study.train.share_prefix:
        alone = sum(cell.config.n_samples for cell in made.cells)
        lines.append(
            f"share_prefix: training on {made.n_trained:,} impressions instead of {alone:,} "
            f"({1 - made.n_trained / alone:.0%} saved)"
        )
    if budget is not None:
        total = (made.spent_seconds + made.seconds) / 3600
        verdict = "exceeded" if total > budget else "not exceeded"
        lines.append(
            f"budget: {budget:g} GPU-hours {verdict}; the whole study takes {format_hours(total)}"
        )
    late = [
        c
        for c in made.cells
        if 2 * c.config.warmup_steps * c.config.batch_size > c.config.n_samples
    ]
    if late and made.study.train.recipe_n_samples is not None:
        lines.append(
            f"warning: warm-up takes over half of the steps of {counted(len(late), 'cell')}; "
            "lower train.recipe_n_samples"
        )
    if made.removed:
        lines.append(f"{counted(len(made.removed), 'run')} no longer in the grid")
    if made.silence:
        lines.append(f"state of the queue unknown: {made.silence}")
    if made.data.fingerprint is None:
        lines.append(f"{made.data.path} will be generated first")
    return [Table(list(columns.values()), rows), "", *lines]


def _short(key: str, value: object) -> object:
    return value[:8] if key == "signature" and isinstance(value, str) else value
