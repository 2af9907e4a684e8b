"""Errors that the user can fix, and the hint with the nearest valid name; no exit codes, no colours."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["SettingError", "StorageError", "UserError", "nearest"]


class UserError(Exception):
    """Wrong use or bad input; the message is one line: what, where, what was expected, what to do.

    The command line prints the message to stderr and exits with code 2; nothing was half-written.
    """


class SettingError(UserError):
    """A key of a study has a value that cannot be used; callers that know the study's file name it as well.

    Attributes:
        key: e.g. `grid.n_samples`; the message begins with it.
    """

    def __init__(self, key: str, problem: str) -> None:
        """Join the key and the problem into one line."""
        super().__init__(f"{key}: {problem}")
        self.key = key


class StorageError(UserError):
    """A file cannot be written, e.g. because the disk is full; later writes would fail as well."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return `", did you mean X?"` with the valid name closest to `name`, or a list of all valid names."""
    choices = sorted(set(valid))
    close = get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return f", did you mean {close[0]}?"
    return f", expected one of: {', '.join(choices)}" if choices else ""
