"""The verb `scaling doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from scaling.cli.options import AsJson, Runs
from scaling.cli.output import coloured, emit, runs_root
from scaling.errors import UserError

if TYPE_CHECKING:
    from scaling.cli.doctor.finding import Finding

__all__ = ["add_verbs"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("doctor")(doctor)


def doctor(runs: Runs = None, as_json: AsJson = False) -> None:
    """Check this machine: Python, packages, GPUs, SLURM, the disk of the runs; a line each, with what to do.

    Exits 1 if something does not work at all. Writes 32 MiB to the folder of the runs and removes them.

    Example: scaling doctor --runs /shared/runs
    """
    findings = list(_findings(runs))
    widest = max(len(one.name) for one in findings)
    lines = [_line(one, widest) for one in findings]
    emit("\n".join(lines), [asdict(one) for one in findings], as_json=as_json)
    if any(one.state == "fail" for one in findings):
        raise typer.Exit(1)


def _findings(runs: Path | None) -> Iterator[Finding]:
    from scaling.cli.doctor.finding import Finding
    from scaling.cli.doctor.installed_code import (
        check_own_packages,
        check_python,
        check_requirements,
    )
    from scaling.cli.doctor.machine_parts import check_cores, check_disk, check_gpus, check_slurm

    yield check_python()
    yield from check_own_packages()
    yield from check_requirements()
    yield check_cores()
    yield from check_gpus()
    of_slurm, in_cluster = check_slurm()
    yield from of_slurm
    try:
        root = runs_root(runs)
    except UserError as error:
        yield Finding("fail", "runs", str(error), "give another folder with --runs")
    else:
        yield from check_disk(root, in_cluster=in_cluster)


def _line(one: Finding, widest: int) -> str:
    advice = f": {one.advice}" if one.advice else ""
    return f"{coloured(f'{one.state:<4}', one.state)}  {one.name:<{widest}}  {one.found}{advice}"
