"""Verbs on studies: the ladder of grades, plan, train, dispatch, status.

Not here: any rule of planning or dispatch itself (`sweeps`).
"""

import typer

from scaling.cli.sweep import grades_verb, plan_verbs, status_verbs, train_verbs

__all__ = ["add_verbs"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    for module in (grades_verb, plan_verbs, train_verbs, status_verbs):
        module.add_verbs(app)
