"""Parsing JSON and TOML that others wrote: a document of plain size, or one reason why it is none.

The parsers of the standard library let through what later code cannot use: NaN in JSON, numbers that no float holds,
a key given twice, lone surrogates; and they fail on deep nesting, or take hours for a key of many parts.
"""

import errno
import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

__all__ = ["open_regular", "parse_json", "parse_toml", "read_json", "read_toml"]


_MOST_LEVELS = 64
_MOST_DIGITS = 308  # a longer number is no float
_INT64 = (-(2**63), 2**63 - 1)  # integers of TOML
_MOST_JSON_BYTES = 2**25
_MOST_TOML_BYTES = 2**20
_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
# tomllib's time grows with the square of the parts of a key
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{32}}")


def read_json(path: Path) -> Any:
    """Return the document of a JSON file (UTF-8).

    Raises:
        OSError: it cannot be read.
        ValueError: as `parse_json`; the message is the reason, in one line.
    """
    with open_regular(path) as file:
        return parse_json(_text(file, _MOST_JSON_BYTES))


def read_toml(path: Path) -> dict[str, Any]:
    """Return the document of a TOML file.

    Raises:
        OSError: it cannot be read.
        ValueError: as `parse_toml`; the message is the reason, in one line.
    """
    with path.open("rb") as file:  # also a pipe that the user names
        return parse_toml(_text(file, _MOST_TOML_BYTES))


def open_regular(path: Path | str) -> BufferedReader:
    """Open a file for reading; a pipe or a device, which may never answer or end, is refused.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    # a pipe would wait for its writer
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def parse_json(text: str) -> Any:
    """Return the document of a JSON text.

    Raises:
        ValueError: it is not JSON, a number is not finite or has over 308 digits, an object has a key twice, it is nested
            over 64 levels deep, or a text holds half of a surrogate pair.
    """
    try:
        document = json.loads(
            text,
            parse_constant=_refuse_number,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_distinct,
        )
    except RecursionError:
        raise ValueError(f"nested over {_MOST_LEVELS} levels deep") from None
    except _NumberError as error:
        raise ValueError(_place_of_number(text) or str(error)) from None
    # each level has a bracket of its own
    if text.count("[") + text.count("{") > _MOST_LEVELS:
        for _ in _leaves(document):
            pass
    if "\\u" in text:
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a text holds half of a surrogate pair") from None
    return document


def parse_toml(text: str) -> dict[str, Any]:
    """Return the document of a TOML text.

    Raises:
        ValueError: it is not TOML, a number is not finite or not of 64 bits, it is nested over 64 levels deep, or a key has
            over 32 parts.
    """
    if len(text) > _MOST_TOML_BYTES:
        raise ValueError(f"over {_MOST_TOML_BYTES:,} characters")
    if long := _LONG_KEY.search(text):
        line = text.count("\n", 0, long.start()) + 1
        raise ValueError(f"line {line}: {long[0][:20]}... has over 32 parts")
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"nested over {_MOST_LEVELS} levels deep") from None
    except ValueError as error:
        if isinstance(error, tomllib.TOMLDecodeError):
            raise
        raise ValueError("an integer has thousands of digits") from None  # Python's own limit
    for key, value in _leaves(document):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key} is {value}, expected a finite number")
        if isinstance(value, int) and not _INT64[0] <= value <= _INT64[1]:
            raise ValueError(f"{key} is too large for an integer of 64 bits")
    return document


def _text(file: BinaryIO, most: int) -> str:
    content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"over {most:,} bytes")
    # line ends as in text mode
    return content.decode("utf-8").replace("\r\n", "\n")


def _leaves(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield each value that is no container, with the keys that lead to it."""
    waiting = [("", document, 0)]
    while waiting:
        key, value, level = waiting.pop()
        if level >= _MOST_LEVELS and isinstance(value, dict | list):
            raise ValueError(f"nested over {_MOST_LEVELS} levels deep")
        if isinstance(value, dict):
            start = f"{key}." if key else ""
            waiting += [(f"{start}{name}", item, level + 1) for name, item in value.items()]
        elif isinstance(value, list):
            waiting += [(key, item, level + 1) for item in value]
        else:
            yield key, value


class _NumberError(ValueError):
    """A number of a JSON text cannot be used; its key is not known here."""


def _refuse_number(text: str) -> NoReturn:
    raise _NumberError(f"{text[:20]} is not a number that a file may hold")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text)


def _whole(text: str) -> int:
    return int(text) if len(text) <= _MOST_DIGITS else _refuse_number(text)


def _place_of_number(text: str) -> str:
    """Say which number cannot be used; the parser that has found one does not know its key."""
    try:
        document = json.loads(text, parse_int=lambda digits: int(digits[: _MOST_DIGITS + 1]))
    except (ValueError, RecursionError):
        return ""
    for key, value in _leaves(document):
        if isinstance(value, float) and not math.isfinite(value):
            return f"{key} is {json.dumps(value)}, expected a finite number"
        if isinstance(value, int) and len(str(value)) > _MOST_DIGITS:
            return f"{key} has over {_MOST_DIGITS} digits"
    return ""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice")
    return found
