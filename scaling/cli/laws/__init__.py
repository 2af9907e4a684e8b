"""Verbs on finished runs and on any table: fitting, budgets, figures, the report, comparisons.

Not here: any rule of the analysis itself (`analysis`).
"""

import typer

from scaling.cli.laws import (
    budget_verbs,
    compare_verb,
    equivalent_verb,
    fitting_verbs,
    forecast_verb,
    gain_verb,
    isoflop_verb,
    race_verb,
    report_verbs,
)

__all__ = ["add_verbs"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    for module in (
        fitting_verbs,
        gain_verb,
        budget_verbs,
        isoflop_verb,
        race_verb,
        forecast_verb,
        report_verbs,
        equivalent_verb,
        compare_verb,
    ):
        module.add_verbs(app)
