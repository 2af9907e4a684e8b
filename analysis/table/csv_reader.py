"""Reading a CSV that others wrote: its exact values, or a refusal that names file, line and column.

One dialect is read: commas between fields, points in decimals, `"` around fields that need it, UTF-8 (RFC 4180, any
line end). Another dialect is refused rather than guessed, as a wrong guess shifts columns or changes numbers.
"""

import csv
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.table.places import HEADER, LINE, SOURCE
from analysis.table.possible_values import check_values
from scaling.errors import UserError

__all__ = ["read_table"]


_DIALECT = "write commas between fields, points in decimals, no thousands separators"
_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", " ": "spaces"}
# Cells without a value, in any column; those that pandas writes or reads by default, too.
_MISSING = frozenset(
    ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "-NaN", "null", "NULL", "None")
)
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
_WITH_COMMA = re.compile(
    r"[+-]?[0-9][0-9.' \u00a0\u202f]*(?:,[0-9]+)+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
)
_TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
# Names of runs, of which some look like numbers (12e45678).
_NAMES = ("signature", "data_fingerprint", "trajectory", "started")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_DIGITS = 25  # longer whole numbers are no int64
_INT64 = (-(2**63), 2**63 - 1)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV with a header; `-` is stdin.

    A column is of whole numbers, numbers or truth values if all its cells are, else of text; `NA`, `NaN`, `null` and
    empty cells are missing values. Blank lines are passed over. The index (named `line`) holds the file's line numbers
    from 1, `attrs` the file's name (`source`) and the line of its header (`header`), all for messages.

    Raises:
        UserError: it cannot be read, is not UTF-8, is of another dialect, has comments or no row, a row is empty or has more
            or fewer fields than the header, a column has no name or the name of another, a number is too large or small for a float,
            or a loss, an AUC or a count of FLOPs is impossible (`check_values`).
    """
    name = "stdin" if str(path) == "-" else str(path)
    rows = _rows(name, _text(name, path))
    if not rows:
        raise UserError(f"{name}: not a CSV table: it is empty")
    (first, header), body = rows[0], rows[1:]
    if _is_comment(header) and any(len(fields) != len(header) for _, fields in body):
        raise UserError(
            f"{name}: line {first}: {','.join(header)!r} is a comment, expected the names of the columns; remove it"
        )
    columns = _columns(name, first, header, body)
    if not body:
        raise UserError(f"{name}: the table has no row")
    for line, fields in body:
        _check_row(name, line, fields, columns)
    lines = [line for line, _ in body]
    cells = zip(*(fields for _, fields in body), strict=True)
    values = {
        column: _column(name, column, lines, texts)
        for column, texts in zip(columns, cells, strict=True)
    }
    table = pd.DataFrame(values, index=pd.Index(lines, name=LINE))
    table.attrs |= {SOURCE: name, HEADER: first}
    check_values(table)
    return table


def _text(name: str, path: Path) -> str:
    try:
        if str(path) == "-":
            content: bytes | str = getattr(sys.stdin, "buffer", sys.stdin).read()
        else:
            content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}") from error
    if isinstance(content, str):  # stdin may be replaced by a stream of text
        return content.removeprefix("\ufeff")
    for start, kind in (
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"PK\x03\x04", "zip"),
    ):
        if content.startswith(start):
            raise UserError(f"{name}: not a CSV table: it is compressed ({kind}); unpack it first")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{name}: not UTF-8 but UTF-16; save the table as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8")
        lines = _lines(before)
        raise UserError(
            f"{name}: line {len(lines)}, character {len(lines[-1]) + 1}: byte {error.object[error.start]:#04x} is not UTF-8; "
            "save the table as UTF-8"
        ) from error


def _lines(text: str) -> list[str]:
    return re.split(r"\r\n|\n|\r", text)


def _rows(name: str, text: str) -> list[tuple[int, list[str]]]:
    """Line number and fields of each line that is not blank."""
    if control := _CONTROL.search(text):
        line, kind = len(_lines(text[: control.start()])), ascii(control[0])
        what = (
            "a NUL; save it as UTF-8"
            if control[0] == "\0"
            else f"a control character ({kind}); remove it"
        )
        raise UserError(f"{name}: line {line}: not a CSV table: it holds {what}")
    rows = []
    for number, row in enumerate(_lines(text), 1):
        if not row.strip():
            continue
        try:
            # a field over several lines is mostly a missing quote, which would swallow rows
            fields = next(csv.reader([row], strict=True, skipinitialspace=True))
        except csv.Error as error:
            reason = str(error)
            if "unexpected end of data" in reason:
                reason = "a quote is not closed on its line"
            elif between := re.search(r'"([;\t|])"', row):
                word = _OTHER_DELIMITERS[between[1]]
                reason = f"fields are separated by {word}, expected commas; {_DIALECT}"
            raise UserError(f"{name}: line {number}: not a CSV table: {reason}") from error
        rows.append((number, fields))
    return rows


def _columns(
    name: str, line: int, header: Sequence[str], body: Sequence[tuple[int, list[str]]]
) -> list[str]:
    """The names of the columns, without spaces around them."""
    columns = [column.strip() for column in header]
    for delimiter, word in _OTHER_DELIMITERS.items():
        between = any(delimiter in column for column in columns)
        if delimiter in "| ":  # legal in a name, so only if rows are divided alike
            alone = len(columns) == 1
            between = between and alone and any(delimiter in row[0].strip() for _, row in body)
        if between:
            raise UserError(
                f"{name}: line {line}: fields are separated by {word}, expected commas; {_DIALECT}"
            )
    for number, column in enumerate(columns, 1):
        if not column:
            raise UserError(
                f"{name}: line {line}: column {number} has no name; name it, or remove it "
                "(pandas: to_csv(index=False))"
            )
        if column in columns[: number - 1]:
            twin = columns.index(column) + 1
            raise UserError(
                f"{name}: line {line}: columns {twin} and {number} are both named {column}; rename one"
            )
    return columns


def _check_row(name: str, line: int, fields: Sequence[str], columns: Sequence[str]) -> None:
    """Check that a row has a field for each column, none of them a number with commas or several numbers."""
    if len(fields) != len(columns):
        if _is_comment(fields):
            raise UserError(
                f"{name}: line {line}: {','.join(fields)!r} is a comment, expected {len(columns)} fields; remove it"
            )
        count = f"{len(fields)} field{'s' if len(fields) != 1 else ''}"
        if len(fields) > len(columns):
            last = columns[-1]
            cause = "a comma at its end" if not fields[-1] else "a decimal comma"
            hint = f"the fields after column {last} have no name; remove {cause}, quote texts with commas"
        else:
            hint = (
                f"column {columns[len(fields)]} has none; write an empty field for a missing value"
            )
        raise UserError(f"{name}: line {line} has {count}, the header {len(columns)}: {hint}")
    if len(columns) > 1 and not any(text.strip() for text in fields):
        raise UserError(
            f"{name}: line {line}: {','.join(fields)!r} holds no value, expected a run; remove the line"
        )
    for column, text in zip(columns, fields, strict=True):
        cell = text.strip()
        if "," in cell and _WITH_COMMA.fullmatch(cell):
            raise UserError(
                f"{name}: line {line}, column {column}: {text!r} is a number with a comma; {_DIALECT}"
            )
        several = [piece.strip() for piece in re.split(r"[;\t]", cell)]
        if len(several) > 1 and all(map(_is_number, several)):
            raise UserError(
                f"{name}: line {line}, column {column}: {text!r} holds {len(several)} numbers; {_DIALECT}"
            )


def _column(name: str, column: str, lines: Sequence[int], texts: Sequence[str]) -> Any:
    """The values of one column, of the narrowest kind that holds all its cells."""
    cells = [text.strip() for text in texts]
    known = [cell for cell in cells if cell not in _MISSING]
    if column in _NAMES or not all(map(_is_number, known)):
        if known and all(cell in _TRUTH for cell in known):
            return [_TRUTH.get(cell) for cell in cells]
        return [
            float("nan") if cell in _MISSING else text
            for cell, text in zip(cells, texts, strict=True)
        ]
    if len(known) == len(cells) and all(_WHOLE.fullmatch(c) and len(c) < _DIGITS for c in cells):
        whole = list(map(int, cells))
        if _INT64[0] <= min(whole) and max(whole) <= _INT64[1]:
            return whole
    numbers = [float("nan") if cell in _MISSING else float(cell) for cell in cells]
    for line, cell, number in zip(lines, cells, numbers, strict=True):
        vanished = number == 0 and re.search("[1-9]", re.split("[eE]", cell)[0])
        if vanished or (math.isinf(number) and not _INFINITE.fullmatch(cell)):
            raise UserError(
                f"{name}: line {line}, column {column}: {cell} is too {'small' if vanished else 'large'} for a "
                "number; change its unit"
            )
    return numbers


def _is_comment(fields: Sequence[str]) -> bool:
    return fields[0].lstrip().startswith("#")


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell) or _INFINITE.fullmatch(cell))
