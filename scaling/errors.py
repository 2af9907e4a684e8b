"""The one exception that means "the user can mend this"; it knows nothing of exit codes or colours."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["StorageError", "UserError", "nearest"]


class UserError(Exception):
    """Wrong use or bad input, told in one line: what, where, what was expected, what to do.

    The command line prints the message to stderr and exits with code 2; nothing was half-written.
    """


class StorageError(UserError):
    """A file cannot be written: the disk is full, or the folder forbids it; nothing else will go well."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return `", did you mean X?"` for the valid name closest to `name`, or all the choices."""
    choices = sorted(valid)
    close = get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return f", did you mean {close[0]}?"
    return f", expected one of: {', '.join(choices)}" if choices else ""
