"""The law that the finished runs of a sweep give so far, fitted again, in a thread, when more have finished."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.cli.tables import Table
from scaling.errors import UserError

if TYPE_CHECKING:
    from analysis.fit import LawFit

__all__ = ["LawSoFar"]


_MOST_FITS = 4  # columns of the table; each is some fifteen characters wide
_MOST_VARIANTS = 3
_REST = 4.0  # times the last fit's own time, so that many runs leave the view and the machine most of it


@dataclass(frozen=True)
class _Fitted:
    """What the runs gave at one time.

    Attributes:
        n_runs: finished runs behind it.
        estimates: parameter with its interval as text, by variant and name.
        heading: the metric, the law, and how far it can be trusted.
    """

    n_runs: int
    estimates: Mapping[str, str] = field(default_factory=dict)
    heading: str = ""


class LawSoFar:
    """Fits again when the finished runs have changed, and keeps the former fits, so that one sees intervals narrow."""

    def __init__(self, folder: Path) -> None:
        """Read runs from a study's folder."""
        self._folder = folder
        self._seen: frozenset[str] = frozenset()
        self._thread: threading.Thread | None = None
        self._fits: list[_Fitted] = []
        self._not_before = 0.0

    @property
    def n_fits(self) -> int:
        """How often the law was fitted, so that one sees whether there is something new."""
        return len(self._fits)

    def look(self, finished: frozenset[str]) -> None:
        """Start a fit if other runs have finished than at the last one, unless that is being made or was just now.

        Args:
            finished: signatures of the finished runs of the grid.
        """
        is_busy = self._thread is not None and self._thread.is_alive()
        if is_busy or time.monotonic() < self._not_before:
            return
        self._start(finished)

    def _start(self, finished: frozenset[str]) -> None:
        if finished == self._seen or not finished:
            return
        self._seen = finished
        # a daemon: whoever leaves the view does not wait for a fit
        self._thread = threading.Thread(target=self._fit, args=(finished,), daemon=True)
        self._thread.start()

    def finish(self, finished: frozenset[str], seconds: float = 60.0) -> None:
        """Wait until the law of these runs is fitted, but no longer than so many seconds for each fit."""
        if self._thread is not None:
            self._thread.join(seconds)
        self._start(finished)
        if self._thread is not None:
            self._thread.join(seconds)

    def parts(self) -> list[str | Table]:
        """Return a heading, and a table with the estimates of the last fits side by side; nothing before the first."""
        fits = list(self._fits)
        if not fits:
            return []
        last = fits[-1]
        if not last.estimates:
            return ["", last.heading]
        shown = [fit for fit in fits if fit.estimates][-_MOST_FITS:]
        header = ["", *(f"{fit.n_runs} runs" for fit in shown)]
        rows = [[name, *(fit.estimates.get(name) for fit in shown)] for name in last.estimates]
        return ["", last.heading, Table(header, rows)]

    def _fit(self, finished: frozenset[str]) -> None:
        begin = time.monotonic()
        try:
            self._fits.append(_fitted(self._folder, finished))
        except UserError as error:
            self._fits.append(_Fitted(len(finished), heading=f"no law yet: {error}"))
        end = time.monotonic()
        self._not_before = end + _REST * (end - begin)


def _fitted(folder: Path, finished: frozenset[str]) -> _Fitted:
    """Fit the default law to a falling metric of the finished runs; each variant has its own.

    Raises:
        UserError: the runs cannot be read, or no law can be fitted to them.
    """
    from analysis.fit import fit_law
    from analysis.laws import build_law
    from analysis.table import default_metrics, rises, runs_table, sized_rows, split_variants
    from scaling.cli.fit_inputs import law_of_table

    table = runs_table(folder)
    table = table[table["signature"].isin(finished)].reset_index(drop=True)
    metric = default_metrics(table)[0]
    name, x = law_of_table(None, table, "n_params", "n_samples", [metric])
    law = build_law(name, rising=rises(metric))
    data = x if len(law.variables) == 1 else "n_samples"
    variants = split_variants(sized_rows(table, x, data, [metric]), x)
    estimates: dict[str, str] = {}
    statuses = []
    for label, rows in list(variants.items())[:_MOST_VARIANTS]:
        fit = fit_law(law, rows, x=x, data=data, y=metric)
        estimates |= _estimates(fit, f"{label} " if label else "")
        statuses.append(f"{label}: {_status(fit)}" if label else _status(fit))
    more = len(variants) - _MOST_VARIANTS
    others = f"; {more} more variants" if more > 0 else ""
    heading = f"the law so far: {metric} = {law.equation}; {'; '.join(statuses)}{others}"
    return _Fitted(len(table), estimates, heading)


def _estimates(fit: LawFit, prefix: str) -> dict[str, str]:
    if not fit.has_curve:
        return {}
    return {f"{prefix}{name}": fit.estimate(name) for name in fit.shown}


def _status(fit: LawFit) -> str:
    return fit.status if fit.success else f"{fit.status}: {fit.message}"
