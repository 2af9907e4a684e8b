"""Quoting of names and texts for SQL."""

__all__ = ["PERSON", "quoted", "text"]


# The person behind a store's user that is one (user, lists) pair: the user, a space and the md5 of the lists.
PERSON = "regexp_replace(user, ' [0-9a-f]{32}$', '')"


def quoted(name: str) -> str:
    """Return a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: object) -> str:
    """Return a value as an SQL string literal."""
    return "'" + str(value).replace("'", "''") + "'"
