"""Saving a fit as one document of plain JSON values, and reading it back."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.fit.fit_options import FitOptions
from analysis.laws import build_law
from analysis.uncertainty import Interval, Noise, Part
from scaling.atomic_files import json_values

if TYPE_CHECKING:
    from analysis.fit.law_fit import LawFit

__all__ = ["document_of", "fields_of"]


# Fields that a document contains unchanged, and those that it contains in another form.
_PLAIN = (
    *("columns", "y", "params", "stderr", "status", "message", "notes", "objective", "n_points"),
    *("n_cells", "n_free", "r_squared", "aicc", "condition", "spans", "at_bound", "unidentified"),
    *("nfev", "origin"),
)
_NESTED = ("intervals", "noise", "cells", "theta", "parts")


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
    """The fields of `LawFit` from a document, also from one that an older version saved."""
    fields = {name: document[name] for name in (*_PLAIN, *_NESTED)}
    law = document["law"]
    fields["law"] = build_law(law["name"], rising=law["rising"], limit=law["limit"])
    fields["options"] = _options(document)
    fields["simpler_p"] = _number(document.get("simpler_p"))  # older documents have none
    for name in ("params", "stderr"):
        fields[name] = {k: _number(v) for k, v in fields[name].items()}
    for name in ("objective", "r_squared", "aicc", "condition"):
        fields[name] = _number(fields[name])
    fields["intervals"] = {
        name: Interval(**{**ends, **_open_ends(ends)}) for name, ends in fields["intervals"].items()
    }
    fields["noise"] = Noise(**{k: _number(v) for k, v in fields["noise"].items()})
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


def _number(value: Any) -> Any:
    return float("nan") if value is None else value


def _part(document: Mapping[str, Any]) -> Part:
    covariance = np.array(document["covariance"], dtype=float)
    return Part(document["source"], covariance, document["dof"])


def _open_ends(ends: Mapping[str, Any]) -> dict[str, Any]:
    """Infinite ends, which JSON holds as null."""
    infinite = {"lower": -math.inf, "upper": math.inf}
    return {name: value for name, value in infinite.items() if ends[name] is None}
