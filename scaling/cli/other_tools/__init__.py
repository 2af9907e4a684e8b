"""Verbs that hand runs on to other tools: files for notebooks, mirrors for trackers.

Not here: what a mirror writes (`scaling.mirrors`).
"""

import typer

from scaling.cli.other_tools import export_verb, mirror_verb

__all__ = ["add_verbs"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    for module in (export_verb, mirror_verb):
        module.add_verbs(app)
