"""Options of an importer: strings from the command line into the fields of a frozen dataclass."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, TypeVar

from scaling.errors import UserError, nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["read_options"]

T = TypeVar("T", bound="DataclassInstance")


def read_options(defaults: T, given: Mapping[str, str]) -> T:
    """Return `defaults` with the `given` values, each converted to its default's type.

    Raises:
        UserError: an unknown option or a value that is not of the option's type.
    """
    known = asdict(defaults)
    values = {}
    for name, text in given.items():
        if name not in known:
            raise UserError(f"option {name}: unknown{nearest(name, known)}")
        kind = type(known[name])
        try:
            values[name] = kind(text)
        except ValueError as error:
            wanted = "a whole number" if kind is int else "a number"
            raise UserError(f"option {name}: {text!r} is not {wanted}") from error
    return replace(defaults, **values)
