"""Verbs that train cells: `scaling run | submit | retry | train`, with progress on stderr."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.options import Budget, ForceResume, Limit, Only, Overrides, Runs, Study, Yes
from scaling.cli.output import print_parts
from scaling.cli.sweep.chosen_cells import cell_by_signature
from scaling.cli.sweep.dispatching import (
    Cluster,
    FailureClass,
    Jobs,
    OnCluster,
    Request,
    train_cells,
)
from scaling.cli.sweep.plan_verbs import load_plan, warn_about

__all__ = ["add_verbs"]


RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")]
MaxParallel = Annotated[
    int | None, typer.Option(min=1, help="Jobs to run at once; slurm only [default: the study's].")
]
Snapshot = Annotated[
    bool,
    typer.Option("--snapshot", help="Run from a copy of the code beside the runs; slurm only."),
]
CleanEnv = Annotated[
    bool,
    typer.Option("--clean-env", help="Submit from inside a job, without the job's environment."),
]
CancelRemoved = Annotated[
    bool,
    typer.Option("--cancel-removed", help="Cancel jobs of cells no longer in the grid."),
]


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    for verb in (run, submit, retry, train):
        app.command(verb.__name__)(verb)


def run(
    study: Study,
    overrides: Overrides = None,
    runs: Runs = None,
    jobs: Jobs = None,
    only: Only = None,
    limit: Limit = None,
    retry_failed: RetryFailed = False,
    budget: Budget = None,
    force_resume: ForceResume = False,
) -> None:
    """Run a whole study: make the data, train the missing cells, fit, plot, report.

    Example: scaling run studies/quickstart.toml
    """
    request = Request(
        study,
        overrides,
        runs,
        jobs=jobs,
        only=only,
        limit=limit,
        retry=tuple(FailureClass) if retry_failed else (),
        budget=budget,
        force_resume=force_resume,
    )
    raise typer.Exit(max(train_cells(request), _analyse(study, overrides, runs)))


def submit(
    study: Study,
    overrides: Overrides = None,
    runs: Runs = None,
    cluster: OnCluster = Cluster.LOCAL,
    jobs: Jobs = None,
    only: Only = None,
    limit: Limit = None,
    retry_failed: RetryFailed = False,
    budget: Budget = None,
    force_resume: ForceResume = False,
    max_parallel: MaxParallel = None,
    snapshot: Snapshot = False,
    clean_env: CleanEnv = False,
    cancel_removed: CancelRemoved = False,
    yes: Yes = False,
) -> None:
    """Train the missing cells; finished, running and queued cells are never submitted twice.

    Lost and preempted cells continue from their checkpoints. A cell that ran out of memory or time is repeated
    once with twice as much; failed cells wait for `scaling retry`. With --cluster slurm the command returns
    once the jobs are queued; otherwise it waits until the cells end, and exits 1 if one of them is not done.

    Example: scaling submit studies/quickstart.toml --cluster slurm
    """
    request = Request(
        study,
        overrides,
        runs,
        cluster,
        jobs,
        only,
        limit,
        tuple(FailureClass) if retry_failed else (),
        budget,
        force_resume,
        max_parallel,
        snapshot,
        clean_env,
        cancel_removed,
        yes,
    )
    raise typer.Exit(train_cells(request))


def retry(
    study: Study,
    failure: Annotated[
        list[FailureClass] | None,
        typer.Option(
            "--class",
            metavar="CLASS",
            help="Kind of failure: exception, diverged, oom, timeout or lost; repeatable [default: all].",
        ),
    ] = None,
    overrides: Overrides = None,
    runs: Runs = None,
    cluster: OnCluster = Cluster.LOCAL,
    jobs: Jobs = None,
    only: Only = None,
    limit: Limit = None,
    budget: Budget = None,
    force_resume: ForceResume = False,
) -> None:
    """Train failed cells again; each out-of-memory or time-out doubles the memory or time of the next attempt.

    Example: scaling retry studies/quickstart.toml --class oom --cluster slurm
    """
    request = Request(
        study,
        overrides,
        runs,
        cluster,
        jobs,
        only,
        limit,
        tuple(failure or FailureClass),
        budget,
        force_resume,
    )
    raise typer.Exit(train_cells(request, failed_only=True))


def train(
    study: Study,
    cell: Annotated[
        str,
        typer.Option(
            help="Signature of the cell, or its first digits, as printed by `scaling plan`."
        ),
    ],
    overrides: Overrides = None,
    runs: Runs = None,
    force_resume: ForceResume = False,
) -> None:
    """Train one cell in this process and print the path of its record; a finished cell is not trained again.

    Example: scaling train studies/quickstart.toml --cell 3f2a
    """
    from scaling.process import prepare_process
    from scaling.store import open_unchanged
    from scaling.training import train_run
    from sweeps.planning import teacher_folders

    made, store = load_plan(study, overrides, runs, make_data=True)
    warn_about(made)
    planned = cell_by_signature(made, cell, study)
    with redirect_stdout(sys.stderr):  # what a class from elsewhere prints
        record = train_run(
            planned.config,
            open_unchanged(made.data.path),
            store,
            prepare_process(),
            key=planned.key,
            options=made.study.run,
            force_resume=force_resume,
            teachers=[Path(folder) for folder in teacher_folders(made.study)],
        )
    print(store.folder(record.signature) / "record.json")


def _analyse(study: Path, overrides: list[str] | None, runs: Path | None) -> int:
    import pandas as pd

    from analysis.report import analyse
    from scaling.records import user_command

    made, store = load_plan(study, overrides, runs, reading=True)
    result = analyse(
        store.root,
        title=made.study.study.description or made.study.name,
        planned=pd.DataFrame(made.rows()),
        commands=[user_command()],
    )
    print_parts([result.text])
    return 0
