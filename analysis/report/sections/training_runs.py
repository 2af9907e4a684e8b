"""The report's sections on the runs themselves: training curves, calibration, and the race of several models."""

import numpy as np
import pandas as pd

from analysis.plots import Picture, draw_calibration, draw_race, draw_training
from analysis.report.page import Block, Figure, Paragraph, Section, Table
from analysis.study_results import Race
from analysis.uncertainty import format_change

__all__ = ["race_section", "training_section"]


_CALIBRATION = ["grade", "n_params", "n_samples", "calibration"]


def training_section(
    table: pd.DataFrame, curves: pd.DataFrame | None
) -> tuple[Section, dict[str, Picture]]:
    """Training curves and calibration, as far as the runs have them; the figures by name."""
    pictures = {}
    if curves is not None and not curves.empty:
        pictures["training-curves"] = draw_training(curves)
    if set(_CALIBRATION) <= set(table.columns) and np.isfinite(table["calibration"]).any():
        pictures["calibration"] = draw_calibration(table)
    parts: list[Block] = [
        Figure(one.svg, one.finding, one.caption, name) for name, one in pictures.items()
    ]
    return Section("How the runs went", parts), pictures


def race_section(race: Race | None) -> tuple[Section, dict[str, Picture]]:
    """Variants against each other at equal sizes and at equal training FLOPs; empty without a race."""
    if race is None:
        return Section("Race of the models", []), {}
    picture = draw_race(race)
    rows = [
        [
            one.variant,
            sum(cell.n_pairs for cell in one.cells),
            format_change(*one.mean),
            f"{one.p_value:.2g}" if np.isfinite(one.p_value) else "–",
            one.n_better,
            one.n_worse,
        ]
        for one in race.contests
    ]
    header = ["model", "pairs", f"{race.metric} minus that of {race.reference}", "p", "cells better", "cells worse"]  # fmt: skip
    return Section(
        "Race of the models",
        [
            Figure(picture.svg, picture.finding, picture.caption, "race"),
            Table(header, rows, f"Pairs of runs of one grade, data size and seed against {race.reference}."),
            Paragraph(
                "p: of no difference, corrected for the number of models (Holm). `scaling race` has the shares of compute as well.",
                "note",
            ),
        ],
    ), {"race": picture}  # fmt: skip
