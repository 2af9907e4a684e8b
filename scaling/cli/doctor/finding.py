"""What one check found."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """A line of `scaling doctor`.

    Attributes:
        state: `ok`; `warn`: something will not work or be slow; `fail`: the toolkit does not work here.
        name: of what was checked.
        found: in words.
        advice: what to do; empty if all is well.
    """

    state: Literal["ok", "warn", "fail"]
    name: str
    found: str
    advice: str = ""
