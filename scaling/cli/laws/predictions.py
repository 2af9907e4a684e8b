"""Predictions of a fitted law at sizes that the caller names."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from scaling.atomic_files import json_values
from scaling.cli.fit_inputs import parse_sizes
from scaling.errors import UserError

if TYPE_CHECKING:
    from analysis.fit import LawFit

__all__ = ["predictions"]


def predictions(fit: LawFit, at: list[str] | None) -> list[tuple[str, dict[str, Any]]]:
    """Predictions of a law at sizes, each as a line of text and as JSON values.

    Raises:
        UserError: sizes cannot be read or lie too far from the runs, or there is no curve.
    """
    found = []
    for text in at or ():
        sizes = parse_sizes(text, len(fit.law.variables))
        if not fit.has_curve:
            raise UserError(f"--at {text}: no curve to predict with: {fit.message}")
        band = fit.band(*sizes)
        ends = {
            name: float(getattr(band, name))
            for name in ("mean", "lower", "upper", "prediction_lower", "prediction_upper")
        }
        if fit.noise.dof and band.outside and not all(map(math.isfinite, ends.values())):
            spans = ", ".join(
                f"{fit.columns[v]} {low:.4g} to {high:.4g}" for v, (low, high) in fit.spans.items()
            )
            raise UserError(f"--at {text}: too far from the runs for a number; they span {spans}")
        where = dict(zip((fit.columns[v] for v in fit.law.variables), sizes, strict=True))
        beyond = max(
            size / fit.spans[v][1] for size, v in zip(sizes, fit.law.variables, strict=True)
        )
        place = ", ".join(f"{name} {size:.4g}" for name, size in where.items())
        line = (
            f"  at {place}: {ends['mean']:.5g} [{ends['lower']:.5g}, {ends['upper']:.5g}], one run "
            f"[{ends['prediction_lower']:.5g}, {ends['prediction_upper']:.5g}]"
        )
        if bool(band.outside):
            line += (
                f", beyond the runs ({beyond:.3g} x the largest)"
                if beyond > 1
                else ", beyond the runs"
            )
        values = json_values(ends)
        found.append((line, {**where, **values, "outside": bool(band.outside)}))
    return found
