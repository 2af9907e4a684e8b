"""What is wrong: `scaling doctor` with this machine, `scaling verify` with the files of finished runs.

Not here: the checks before a sweep is queued (`sweeps.dispatch`).
"""

import typer

from scaling.cli.doctor import doctor_verb, verify_verb

__all__ = ["add_verbs"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    doctor_verb.add_verbs(app)
    verify_verb.add_verbs(app)
