"""Verbs on event stores: `scaling data import | generate | show`."""

import typer

__all__ = ["app"]

app = typer.Typer(help="Make and inspect event stores.", no_args_is_help=True)
