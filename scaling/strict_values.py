"""Frozen dataclasses from parsed TOML or JSON: types are strict, unknown keys are errors of one line.

Plain dataclasses need no mark: pydantic hands the configuration of the whole document down to them. Those
marked `@tolerant` skip keys that they do not have.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from scaling.errors import UserError, nearest

__all__ = ["fits", "from_document", "key_errors", "require_positive", "tolerant"]


# no key of a file is meant to be NaN or infinite
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_TOLERANT = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")

# what pydantic adds to a key's path for the members of a union
_UNION_PREFIXES = ("function-", "tuple[", "literal[")
_UNION_NAMES = ("int", "str", "float", "bool")

T = TypeVar("T")


def tolerant(cls: type[T]) -> type[T]:
    """Class decorator: keys that the dataclass does not have are skipped, e.g. those of another version."""
    cls.__pydantic_config__ = _TOLERANT  # type: ignore[attr-defined]
    return cls


def require_positive(config: object, *names: str) -> None:
    """Check that these attributes are positive, finite numbers or None.

    Raises:
        ValueError: the first one that is not.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}, expected a positive number")


def from_document(kind: type[T], document: Any, where: str) -> T:
    """Build a frozen config of type `kind` from parsed TOML or JSON; `where` begins the message unless it is empty.

    Raises:
        UserError: naming the first bad key, what was expected and the nearest valid name.
    """
    try:
        return _parsed(kind, document)
    except ValidationError as error:
        text = _explanations(kind, error)[0]
        raise UserError(f"{where}: {text}" if where else text) from error


def key_errors(kind: type, document: Any) -> list[str]:
    """Return one line for each bad key of parsed TOML or JSON: its name and what was expected."""
    try:
        _parsed(kind, document)
    except ValidationError as error:
        return _explanations(kind, error)
    return []


def fits(kind: type, text: str | bytes) -> bool:
    """Whether the text of a JSON file is of type `kind`; fast, because there may be thousands of files."""
    content = text.encode() if isinstance(text, str) else text
    try:
        _adapter(cast(Any, kind)).validate_json(b"[" + content + b"]")
    except ValidationError:
        return False
    return True


def _parsed(kind: type[T], document: Any) -> T:
    # TOML and JSON have lists for tuples, which strict mode accepts from JSON text only.
    parsed: tuple[T] = _adapter(cast(Any, kind)).validate_json(json.dumps([document], default=str))
    return parsed[0]


def _explanations(kind: type, error: ValidationError) -> list[str]:
    # An unknown key is the likeliest cause of a missing one, so it comes first.
    found = sorted(error.errors(), key=lambda e: e["type"] not in _UNKNOWN)
    by_key: dict[str, list[Any]] = {}
    for one in found:
        by_key.setdefault(_key(one), []).append(one)
    lines = []
    for key, errors in by_key.items():
        types = {e["type"]: e for e in errors}
        if "literal_error" in types and "int_type" in types:  # a number or a word
            words, given = types["literal_error"]["ctx"]["expected"], errors[0]["input"]
            lines.append(f"{key}: expected an integer or {words}, got {given!r}")
        else:
            lines += [_explain(kind, e) for e in errors]
    return lines


def _key(error: Mapping[str, Any]) -> str:
    parts = _location(error)
    return ".".join(p for p in parts if p not in _UNION_NAMES and not p.startswith(_UNION_PREFIXES))


def _location(error: Mapping[str, Any]) -> list[str]:
    """The path of keys below the document, which is the only element of a tuple (see `_adapter`)."""
    return [str(part) for part in error["loc"][1:]]


@cache  # building one takes milliseconds, and there may be thousands of records
def _adapter(kind: Any) -> TypeAdapter[Any]:
    # pydantic refuses a configuration for a dataclass, but not for a tuple that holds one
    return TypeAdapter(tuple[kind], config=_STRICT)


def _explain(kind: type, error: Mapping[str, Any]) -> str:
    location, key = _location(error), _key(error)
    if error["type"] in _UNKNOWN:
        valid = _valid_keys(kind, location[:-1])
        return f"{key}: unknown key{nearest(location[-1], valid)}"
    if error["type"] in ("missing", "missing_argument"):
        return f"{key}: missing"
    if error["type"] == "literal_error":
        return f"{key}: {error['input']!r} is not one of {error['ctx']['expected']}"
    if error["type"] == "value_error":
        return f"{key}: {error['ctx']['error']}" if key else str(error["ctx"]["error"])
    message = str(error["msg"])
    message = f"{message[0].lower()}{message[1:]}, got {error['input']!r}"
    return f"{key}: {message}" if key else message  # the whole document has no key


def _valid_keys(kind: type, location: Sequence[str]) -> list[str]:
    current: Any = kind
    for part in location:
        if is_dataclass(current):
            current = get_type_hints(current).get(part)
        else:  # dict[str, X]: any key leads to X
            current = get_args(current)[-1] if get_args(current) else None
        if isinstance(current, UnionType):  # an optional section
            current = next(filter(is_dataclass, get_args(current)), None)
    return [f.name for f in fields(current)] if is_dataclass(current) else []
