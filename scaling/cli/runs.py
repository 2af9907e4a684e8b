"""Verbs on studies: `scaling grades | plan | run | submit | status | train`."""

import typer

__all__ = ["add_verbs"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
