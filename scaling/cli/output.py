"""How results are printed: an aligned table for people, one JSON document for programs."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.errors import UserError

__all__ = [
    "counted",
    "emit",
    "format_duration",
    "format_hours",
    "format_table",
    "is_live",
    "runs_root",
]


def is_live() -> bool:
    """Whether stderr is a terminal that wants live progress and colour."""
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return an aligned text table; numbers are right-aligned, everything else left-aligned."""
    cells = [[_format(value) for value in row] for row in rows]
    widths = [
        max([len(name), *(len(row[column]) for row in cells)]) for column, name in enumerate(header)
    ]
    numeric = [
        bool(rows) and all(isinstance(row[column], int | float | None) for row in rows)
        for column in range(len(header))
    ]
    lines = []
    for row in [list(header), *cells]:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def emit(text: str, document: Any, *, as_json: bool, output: Path | None = None) -> None:
    """Print `document` as JSON or `text` to stdout, or write it to `output` (`-` is stdout)."""
    from scaling.atomic_files import write_text

    result = json.dumps(document, indent=2, allow_nan=False) if as_json else text
    if output is None or str(output) == "-":
        print(result)
    else:
        write_text(output, result + "\n")


def runs_root(option: Path | None) -> Path:
    """Return the folder of all runs: the option, else `$SCALING_RUNS`, else `./runs`.

    Raises:
        UserError: it is a file, or lies below one.
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


def format_hours(hours: float) -> str:
    """Return e.g. `12.30`, or two significant digits of less than a tenth: `0.0012`."""
    return f"{hours:.2f}" if hours == 0 or hours >= 0.1 else f"{hours:.2g}"


def _format(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value != value:
            return "-"
        if value == 0 or 1e-3 <= abs(value) < 1e5:
            return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"
        return f"{value:.3g}"
    return str(value)
