"""Verbs on studies: `scaling grades | plan | run | submit | status | train`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.output import emit, format_table
from scaling.cli.submitting import format_duration, load_plan, submit_cells
from scaling.errors import UserError, nearest

if TYPE_CHECKING:
    from sweeps.plan import Plan

__all__ = ["add_verbs"]

logger = logging.getLogger(__name__)

Study = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).")]
Runs = Annotated[
    Path | None,
    typer.Option("--runs", help="Folder of all runs [default: $SCALING_RUNS or ./runs]."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Override a key of the study; repeatable."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, numbers unrounded.")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Write here instead of stdout.")
]
Cluster = Annotated[str, typer.Option(help="local (processes), slurm, or debug (in this process).")]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Cells at once, local only [default: GPUs, else cores].")
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE", help="Only cells with grade=, n_samples= or seed=; repeatable."
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="At most so many cells, the smallest first.")
]

_PLAN_COLUMNS = {
    "grade": "grade",
    "n_samples": "n_samples",
    "seed": "seed",
    "n_params": "n_params",
    "n_embedding_params": "embedding",
    "flops": "flops",
    "batch_size": "batch",
    "estimated_seconds": "seconds",
    "estimate": "estimate",
    "state": "state",
}


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    for verb in (grades, plan, run, submit, status, train):
        app.command(verb.__name__)(verb)


def grades(
    data: Annotated[
        Path | None, typer.Option(help="An event store whose features to count with.")
    ] = None,
    study: Annotated[Path | None, typer.Option(help="A study file with grades of its own.")] = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Print the ladder: sizes, parameters, FLOPs per sample.

    Without --data the counts are for the schema of the generated logs.

    Example: scaling grades --data data/movielens-1m
    """
    from models.accounting import model_size
    from models.config import SuanOptions
    from models.grades import GRADES
    from scaling.config import load_study
    from scaling.store import open_store
    from scaling.synthetic import SyntheticConfig, synthetic_schema

    ladder = dict(GRADES)
    options = SuanOptions()
    if study is not None:
        config = load_study(study)
        ladder |= config.grades
        options = config.model
    schema = (
        synthetic_schema(SyntheticConfig(n_train=1)) if data is None else open_store(data).schema
    )
    documents = []
    for name, grade in ladder.items():
        size = model_size(grade, options, schema)
        documents.append(
            {
                "grade": name,
                "n_layers": grade.n_layers,
                "n_heads": grade.n_heads,
                "d": grade.d,
                "token_width": grade.d * len(schema.behaviour),
                "max_len": grade.max_len,
                "n_params": size.n_params,
                "n_embedding_params": size.n_embedding_params,
                "flops_per_sample": size.flops_per_sample,
                "training_flops_per_sample": size.training_flops(1),
            }
        )
    rows = [list(document.values()) for document in documents]
    emit(format_table(list(documents[0]), rows), documents, as_json=as_json, output=output)


def plan(
    study: Study,
    overrides: Overrides = None,
    runs: Runs = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Print every cell with its size, cost and state; writes nothing.

    Example: scaling plan studies/quickstart.toml
    """
    made, _ = load_plan(study, overrides, runs)
    emit(
        _plan_text(made),
        {"study": made.study.name, "cells": made.rows()},
        as_json=as_json,
        output=output,
    )


def run(
    study: Study,
    overrides: Overrides = None,
    runs: Runs = None,
    jobs: Jobs = None,
    only: Only = None,
    limit: Limit = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Do a whole study: make the data, train what is missing, fit, plot, report.

    Example: scaling run studies/quickstart.toml
    """
    code = submit_cells(study, overrides, runs, "local", jobs, only, limit, retry_failed)
    raise typer.Exit(max(code, _analyse(study, overrides, runs)))


def submit(
    study: Study,
    overrides: Overrides = None,
    runs: Runs = None,
    cluster: Cluster = "local",
    jobs: Jobs = None,
    only: Only = None,
    limit: Limit = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Train the cells that are missing; a finished cell is never trained again.

    Failed cells stay as they are until --retry-failed. With --cluster slurm the command returns once
    the jobs are queued; otherwise it waits for them.

    Example: scaling submit studies/quickstart.toml --cluster slurm
    """
    raise typer.Exit(submit_cells(study, overrides, runs, cluster, jobs, only, limit, retry_failed))


def status(
    study: Study,
    overrides: Overrides = None,
    runs: Runs = None,
    as_json: AsJson = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 unless every cell is done.")
    ] = False,
) -> None:
    """Print where each cell stands, from its files alone.

    Example: scaling status studies/quickstart.toml
    """
    from sweeps.status import progress_line, status_rows

    made, store = load_plan(study, overrides, runs)
    rows = status_rows(made)
    table = format_table(list(rows[0]), [list(row.values()) for row in rows])
    text = f"{table}\n\n{progress_line(made, store)}"
    emit(text, {"study": made.study.name, "cells": rows}, as_json=as_json)
    if check and len(made.with_state("done")) < len(made.cells):
        raise typer.Exit(1)


def train(
    study: Study,
    cell: Annotated[
        str,
        typer.Option(help="Signature of the cell, or its first digits; `plan --json` has them."),
    ],
    overrides: Overrides = None,
    runs: Runs = None,
) -> None:
    """Train one cell in this process and print its record's path; a finished one is only read.

    Example: scaling train studies/quickstart.toml --cell 3f2a
    """
    from scaling.run import train_run
    from scaling.store import open_store
    from sweeps.job import prepare_process

    made, store = load_plan(study, overrides, runs, make_data=True)
    signatures = [planned.config.signature for planned in made.cells]
    matches = [p for p in made.cells if cell and p.config.signature.startswith(cell)]
    if len(matches) != 1:
        what = (
            f"{len(matches)} cells begin so"
            if matches
            else f"no such cell{nearest(cell, signatures)}"
        )
        raise UserError(
            f"--cell {cell}: {what}; `scaling plan {study} --json` lists the signatures"
        )
    device = prepare_process()
    record = train_run(matches[0].config, open_store(made.data.path), store, device)
    print(store.folder(record.signature) / "record.json")


def _plan_text(made: Plan) -> str:
    columns = dict(_PLAN_COLUMNS)
    columns |= {axis: axis for axis in made.study.grid.axes}
    rows = [[row[key] for key in columns] for row in made.rows()]
    table = format_table(list(columns.values()), rows)
    counts = {
        state: len(made.with_state(state))
        for state in ("done", "running", "failed", "lost", "preempted", "missing")
    }
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    flops = sum(cell.flops for cell in made.cells if cell.state.state != "done")
    lines = [
        table,
        "",
        f"{len(made.cells)} cells: {told}",
        f"to do: {flops:.2e} training FLOPs, about {format_duration(made.seconds)} of one core or GPU",
    ]
    if made.data.fingerprint is None:
        lines.append(f"{made.data.path} will be generated first")
    return "\n".join(lines)


def _analyse(study: Path, overrides: list[str] | None, runs: Path | None) -> int:
    import pandas as pd

    from analysis.report import analyse

    made, store = load_plan(study, overrides, runs)
    result = analyse(
        store.root,
        title=made.study.study.description or made.study.name,
        planned=pd.DataFrame(made.rows()),
    )
    print(result.text)
    return 0
