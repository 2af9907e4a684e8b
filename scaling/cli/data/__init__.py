"""Verbs on event stores: `scaling data import | generate | show | check | validate`.

Not here: any rule of stores or importers itself (`scaling.store`, `scaling.audit`, `scaling.importers`).
"""

import typer

from scaling.cli.data import store_verbs

__all__ = ["add_verbs"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    app.add_typer(store_verbs.app, name="data")
