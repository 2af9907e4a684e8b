"""Verbs on finished runs and any CSV: `scaling table | fit | plot | report`."""

import typer

__all__ = ["add_verbs"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
