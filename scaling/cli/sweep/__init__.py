"""Verbs on studies: the ladder of grades, plan, train, dispatch, status.

Not here: any rule of planning or dispatch itself (`sweeps`).
"""

import typer

from scaling.cli.sweep import (
    grades_verb,
    plan_verbs,
    pursue_verb,
    status_verbs,
    train_verbs,
    tune_verb,
)
from scaling.cli.sweep.chosen_cells import cell_by_signature
from scaling.cli.sweep.plan_verbs import load_plan

__all__ = ["add_verbs", "cell_by_signature", "load_plan"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    for module in (grades_verb, plan_verbs, train_verbs, pursue_verb, tune_verb, status_verbs):
        module.add_verbs(app)
