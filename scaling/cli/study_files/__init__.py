"""Verbs on study files: write one for a data set, show what it says, compare two, copy those of the package.

Not here: what the keys mean and which grid suits a data set (`scaling.study_keys`).
"""

import typer

from scaling.cli.study_files import diff_verb, init_verb, shipped_studies_verb, show_verb

__all__ = ["add_verbs"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    for module in (init_verb, show_verb, diff_verb, shipped_studies_verb):
        module.add_verbs(app)
