"""The report as one JSON document, for programs and dashboards: the numbers of the page, unrounded."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from analysis.forecasts import Score, score_table
from analysis.latency import Served
from analysis.study_results import MetricFits, StudyFits

__all__ = ["study_document"]


# Grows if a key changes its meaning or goes.
_VERSION = 1


def study_document(
    title: str,
    studies: Sequence[StudyFits],
    planned: pd.DataFrame | None,
    served: Sequence[Served],
    forecasts: Sequence[Score],
    provenance: Sequence[tuple[str, str]],
    commands: Sequence[str],
) -> dict[str, Any]:
    """Return titles, gains, laws, held-out scores, cells, missing runs, latencies, forecasts and provenance."""
    absent = [] if planned is None else planned[planned["state"] != "done"].to_dict("records")
    header, rows = score_table(forecasts) if forecasts else ([], [])
    return {
        "version": _VERSION,
        "title": title,
        "variants": [_variant(study) for study in studies],
        "missing": absent,
        "served": [
            {"metric": one.metric, "n_candidates": one.n_candidates, "models": one.models.to_dict("records")}
            for one in served
        ],
        "forecasts": [dict(zip(header, row, strict=True)) for row in rows],
        "provenance": dict(provenance),
        "commands": list(commands),
    }  # fmt: skip


def _variant(study: StudyFits) -> dict[str, Any]:
    return {
        "label": study.label,
        "size": study.size.column,
        "data": study.data.column,
        "metrics": {metric: _metric(study, fits) for metric, fits in study.metrics.items()},
    }


def _metric(study: StudyFits, fits: MetricFits) -> Mapping[str, Any]:
    cells = study.cells.sizes.assign(
        n_seeds=study.cells.n_seeds, **study.cells.metrics[fits.metric]
    )
    return {
        "gains": [
            {
                "from": found.place,
                "sizes": dict(zip(fits.joint.law.variables, found.sizes, strict=True)),
                "more_of": [asdict(gain) for gain in found.gains],
            }
            for found in fits.tenfold
        ],
        "law": fits.joint.to_document(),
        "true_limit": fits.truth,
        "held_out": fits.scores.to_dict("records"),
        "cells": cells.to_dict("records"),
    }  # fmt: skip
