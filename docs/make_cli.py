"""Writes docs/cli.md from the live --help of every verb; `make docs` runs it, a test holds the file to it."""

import contextlib
import io
import os
from pathlib import Path

import typer.main

from scaling.cli.app import app, main

__all__ = ["help_text", "render", "verbs"]

_HEADER = """\
# Command line

Written by `make docs` from the live `--help`; do not edit. Exit codes: 0 done, 1 ran but the result is bad (cells failed, a fit
did not converge), 2 wrong use or bad input (one line on stderr, nothing half-written), 130 interrupted. Only the result goes to stdout.
`scaling --install-completion` completes verbs, options and their values in bash, zsh and fish. `$NO_COLOR` switches colours off.
"""


def verbs() -> list[tuple[str, ...]]:
    """Return every verb as its words, e.g. `("data", "show")`, in the order of the command's own help."""

    def walk(command: object, words: tuple[str, ...]) -> list[tuple[str, ...]]:
        commands = getattr(command, "commands", None)
        if commands is None:
            return [words]
        return [verb for name, child in commands.items() for verb in walk(child, (*words, name))]

    return walk(typer.main.get_command(app), ())


def help_text(verb: tuple[str, ...]) -> str:
    """Return what `scaling VERB --help` prints on a terminal of 80 columns."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
            main([*verb, "--help"])
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    return out.getvalue().strip()


def render() -> str:
    """Return the whole of docs/cli.md."""
    parts = [_HEADER]
    for verb in [(), *verbs()]:
        title = " ".join(["scaling", *verb])
        parts.append(f"## {title}\n\n```text\n{help_text(verb)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(render(), encoding="utf-8")
