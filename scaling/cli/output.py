"""How results are printed: text with tables for people, one JSON document for programs."""

import json
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.cli.tables import Table, style_of
from scaling.errors import UserError

__all__ = [
    "coloured",
    "counted",
    "emit",
    "format_about",
    "format_duration",
    "format_hours",
    "is_live",
    "print_parts",
    "runs_root",
]


_CODES = {"green": 32, "yellow": 33, "red": 31}
_OWN = re.compile(rf"(\n|\x1b\[(?:0|{'|'.join(map(str, _CODES.values()))})m)")
_LINE_END = re.compile(r"(\n)")
# durations below the first number are rounded up to a multiple of the second, in seconds
_ROUNDING = ((60, 5), (600, 10), (3600, 60), (math.inf, 300))


def is_live() -> bool:
    """Whether progress on stderr may be redrawn in place: it is a terminal, and `$NO_COLOR` is not set."""
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ


def coloured(text: str, state: str, *, on_stderr: bool = False) -> str:
    """Return the text in the colour of a state, on a terminal that has colours and unless `$NO_COLOR` is set."""
    stream = sys.stderr if on_stderr else sys.stdout
    is_plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    style = style_of(state)
    if style is None or is_plain or not stream.isatty():
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def emit(
    text: str | Table | Sequence[str | Table],
    document: Any,
    *,
    as_json: bool,
    output: Path | None = None,
) -> None:
    """Print `document` as JSON or `text` to stdout, or write it to `output` (`-` is stdout).

    Args:
        text: one part, or parts that follow each other on new lines.
        document: the same result for programs.
        as_json: print `document`, not `text`.
        output: a file to write instead of printing.
    """
    from scaling.atomic_files import write_text

    parts = [text] if isinstance(text, str | Table) else text
    if as_json:
        parts = [json.dumps(document, indent=2, allow_nan=False)]
    if output is None or str(output) == "-":
        print_parts(parts)
    else:
        write_text(output, "\n".join(map(str, parts)) + "\n")


def print_parts(parts: Sequence[str | Table]) -> None:
    """Print texts and tables to stdout, with escapes for control characters; on a terminal they are fitted to its width."""
    is_terminal = sys.stdout.isatty()
    parts = [
        _without_controls(part, coloured=is_terminal) if isinstance(part, str) else part
        for part in parts
    ]
    if is_terminal:
        from scaling.cli.terminal import print_on_terminal

        print_on_terminal(parts)
    else:
        print("\n".join(map(str, parts)), flush=True)


def _without_controls(text: str, *, coloured: bool) -> str:
    """Texts may quote names of files that others wrote; only line ends and our own colours reach a terminal."""
    from scaling.aligned_text import printable

    if text.replace("\n", "").isprintable():
        return text
    own = _OWN if coloured else _LINE_END
    return "".join(
        piece if number % 2 else printable(piece) for number, piece in enumerate(own.split(text))
    )


def runs_root(option: Path | None) -> Path:
    """Return the folder of all runs: the option, else `$SCALING_RUNS`, else `./runs`.

    Raises:
        UserError: it is a file, or a parent of it is one.
    """
    root = option if option is not None else Path(os.environ.get("SCALING_RUNS") or "runs")
    if file := next((path for path in (root, *root.parents) if path.is_file()), None):
        raise UserError(f"{file}: a file, expected the folder of all runs; give another --runs")
    return root


def counted(n: int, noun: str) -> str:
    """Return e.g. `1 cell` or `3 cells`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def format_duration(seconds: float) -> str:
    """Return e.g. `3:07` or `1:03:07`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_about(seconds: float) -> str:
    """Return e.g. `about 3:10`, rounded up so that no figure means more than an estimate can."""
    unit = next(unit for limit, unit in _ROUNDING if seconds < limit)
    return f"about {format_duration(unit * math.ceil(seconds / unit))}"


def format_hours(hours: float) -> str:
    """Return e.g. `12.30`; below a tenth, two significant digits: `0.0012`."""
    return f"{hours:.2f}" if hours == 0 or hours >= 0.1 else f"{hours:.2g}"
