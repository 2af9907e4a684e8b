"""Cases of a parametrized test of which the fast suite takes some."""

from collections.abc import Iterable
from typing import Any

import pytest

__all__ = ["fast_only"]


def fast_only(fast: Iterable[Any], cases: Iterable[Any], *, unpack: bool = False) -> list[Any]:
    """Return the cases for `parametrize`, all but `fast` marked as slow; `unpack`: a case has several arguments."""
    chosen, every = list(fast), list(cases)
    assert all(case in every for case in chosen)
    return [
        case
        if case in chosen
        else pytest.param(*(case if unpack else (case,)), marks=pytest.mark.slow)
        for case in every
    ]
