"""The verb `scaling doctor`: whether this machine can train, submit and fit, and what to do if it cannot.

Not here: the checks before a sweep is queued (`sweeps.dispatch`).
"""

import typer

from scaling.cli.doctor import doctor_verb

__all__ = ["add_verbs"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    doctor_verb.add_verbs(app)
