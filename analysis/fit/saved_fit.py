"""Saving a fit as one document of plain JSON values, and reading it back."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from analysis.fit.fit_options import FitOptions, IntervalMethod, Loss, Residual, Weights
from analysis.laws import build_law
from analysis.uncertainty import Interval, Noise, Part
from scaling.atomic_files import json_values
from scaling.errors import UserError
from scaling.strict_values import from_document, tolerant

if TYPE_CHECKING:
    from analysis.fit.law_fit import LawFit

__all__ = ["document_of", "fields_of"]


# Fields that a document contains unchanged, and those that it contains in another form.
_PLAIN = (
    *("columns", "y", "params", "stderr", "status", "message", "notes", "objective", "n_points"),
    *("n_cells", "n_free", "r_squared", "aicc", "condition", "spans", "at_bound", "unidentified"),
    *("nfev", "origin"),
)
# what a fit says of each cell, besides its sizes
_OF_CELLS = frozenset({"measured", "fitted", "residual", "n_rows"})
_NESTED = ("intervals", "noise", "cells", "theta", "parts")


@dataclass(frozen=True)
class _SavedLaw:
    name: str
    rising: bool
    limit: float | None


@dataclass(frozen=True)
class _SavedEnds:
    lower: float | None
    upper: float | None
    open_lower: bool = False
    open_upper: bool = False


@dataclass(frozen=True)
class _SavedPart:
    source: str
    covariance: tuple[tuple[float | None, ...], ...]
    dof: float | None


@tolerant
@dataclass(frozen=True)
class _SavedNoise:
    sd: float | None
    dof: int
    source: Literal["seeds", "settings", "residuals", "none"]
    seed_sd: float | None = None
    seed_dof: int = 0
    lack_of_fit: float | None = None
    lack_of_fit_p: float | None = None
    run_sd: float | None = 0.0
    shared_sd: float | None = 0.0
    test_sd: float | None = 0.0
    misfit_sd: float | None = 0.0


@tolerant
@dataclass(frozen=True)
class _SavedFit:
    """The types of a document; keys with a default are absent in those of older versions."""

    law: _SavedLaw
    columns: dict[str, str]
    y: str
    params: dict[str, float | None]
    stderr: dict[str, float | None]
    status: Literal["converged", "at_bound", "not_identified", "too_few_points", "not_converged"]
    message: str
    notes: tuple[str, ...]
    objective: float | None
    n_points: int
    n_cells: int
    n_free: int
    r_squared: float | None
    aicc: float | None
    condition: float | None
    spans: dict[str, tuple[float, float]]
    at_bound: tuple[str, ...]
    unidentified: tuple[str, ...]
    nfev: int
    origin: tuple[float, ...]
    loss: Loss
    delta: float | None
    residual: Residual
    fixed: dict[str, float]
    interval_method: IntervalMethod
    level: float
    seed: int
    n_draws: int
    intervals: dict[str, _SavedEnds]
    noise: _SavedNoise
    cells: dict[str, tuple[float | None, ...]]
    theta: tuple[float | None, ...]
    parts: tuple[_SavedPart, ...]
    over: float = 1.0
    weights: Weights = "none"
    simpler_p: float | None = None

    def __post_init__(self) -> None:
        """Check that what belongs together has the same length and names."""
        size = len(self.theta)
        if any(
            len(p.covariance) != size or any(len(r) != size for r in p.covariance)
            for p in self.parts
        ):
            raise ValueError(
                f"parts: expected covariances of {size} x {size}, as theta has {size} values"
            )
        if len({len(values) for values in self.cells.values()}) > 1:
            raise ValueError("cells: columns of different lengths")
        if missing := _OF_CELLS - set(self.cells):
            raise ValueError(f"cells: no column {min(missing)}")
        sizes = list(self.columns.values())
        if list(self.cells)[: len(sizes)] != sizes:
            raise ValueError(f"cells: the first columns are not {', '.join(sizes)}")
        if size and len(self.origin) != len(self.columns):
            raise ValueError(f"origin: {len(self.origin)} values for {len(self.columns)} columns")


def document_of(fit: "LawFit") -> dict[str, Any]:
    """The fit as plain JSON values; NaN and infinity become null."""
    options = fit.options
    document = {
        "law": {"name": fit.law.name, "rising": fit.law.rising, "limit": fit.law.limit},
        "equation": fit.law.equation,
        **{name: vars(fit)[name] for name in _PLAIN},
        "loss": options.loss,
        "delta": options.threshold,
        "over": options.over,
        "residual": options.residual_scale,
        "weights": options.weights,
        "fixed": fit.fixed,
        "interval_method": fit.interval_method,
        "level": options.level,
        "seed": options.seed,
        "n_draws": options.resamples if fit.interval_method == "bootstrap" else 0,
        "intervals": {name: asdict(interval) for name, interval in fit.intervals.items()},
        "noise": asdict(fit.noise),
        "cells": fit.cells.to_dict(orient="list"),
        "theta": fit.theta.tolist(),
        "parts": [{**vars(p), "covariance": p.covariance.tolist()} for p in fit.parts],
        "simpler_p": fit.simpler_p,
    }
    cleaned: dict[str, Any] = json_values(document)
    return cleaned


def fields_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `LawFit` from a document, also from one that an older version saved.

    Raises:
        UserError: a value is missing, or is not what `document_of` writes.
    """
    from_document(_SavedFit, document, "fit")
    fields = {name: document[name] for name in (*_PLAIN, *_NESTED)}
    law = document["law"]
    fields["law"] = build_law(law["name"], rising=law["rising"], limit=law["limit"])
    if set(fields["columns"]) != set(fields["law"].variables):
        raise UserError(
            f"fit: columns of {', '.join(fields['columns']) or 'nothing'}, expected {', '.join(fields['law'].variables)}"
        )
    fields["options"] = _options(document)
    fields["simpler_p"] = _number(document.get("simpler_p"))  # older documents have none
    for name in ("params", "stderr"):
        fields[name] = {k: _number(v) for k, v in fields[name].items()}
    for name in ("objective", "r_squared", "aicc", "condition"):
        fields[name] = _number(fields[name])
    fields["intervals"] = {
        name: Interval(**{**_known(_SavedEnds, ends), **_open_ends(ends)})
        for name, ends in fields["intervals"].items()
    }
    fields["noise"] = Noise(**{k: _number(v) for k, v in _known(Noise, fields["noise"]).items()})
    fields["cells"] = pd.DataFrame(fields["cells"]).astype(float)
    fields["theta"] = np.array(fields["theta"], dtype=float)
    fields["parts"] = tuple(_part(part) for part in fields["parts"])
    fields["spans"] = {k: tuple(v) for k, v in fields["spans"].items()}
    for name in ("notes", "at_bound", "unidentified", "origin"):
        fields[name] = tuple(fields[name])
    return fields


def _options(document: Mapping[str, Any]) -> FitOptions:
    """The options of a saved fit; older documents hold neither `over` nor `weights`."""
    return FitOptions(
        loss=document["loss"],
        delta=document["delta"],
        over=document.get("over", 1.0),
        residual=document["residual"],
        weights=document.get("weights", "none"),
        fixed=document["fixed"],
        interval=document["interval_method"],
        n_draws=document["n_draws"] or None,
        seed=document["seed"],
        level=document["level"],
    )


def _known(kind: type[Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """The values that this version knows; a later one may have written more."""
    names = {one.name for one in dataclass_fields(kind)}
    return {name: value for name, value in document.items() if name in names}


def _number(value: Any) -> Any:
    return float("nan") if value is None else value


def _part(document: Mapping[str, Any]) -> Part:
    covariance = np.array(document["covariance"], dtype=float)
    return Part(document["source"], covariance, document["dof"])


def _open_ends(ends: Mapping[str, Any]) -> dict[str, Any]:
    """Infinite ends, which JSON holds as null."""
    infinite = {"lower": -math.inf, "upper": math.inf}
    return {name: value for name, value in infinite.items() if ends[name] is None}
