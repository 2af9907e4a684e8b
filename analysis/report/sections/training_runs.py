"""The report's sections on the runs themselves: training curves, calibration, and the race of several models."""

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
import pandas as pd

from analysis.plots import Picture, draw_calibration, draw_race, draw_training
from analysis.report.page import Block, Figure, Paragraph, Section, Table
from analysis.study_results import Race
from analysis.uncertainty import format_change

__all__ = ["race_section", "training_section", "variant_column"]


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


def variant_column(names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The heading of a column of variants, and the entry of each.

    What all names share, up to an equals sign, is said in the heading alone: `model.kind=din` and `model.kind=suan` are `din` and
    `suan` under `model.kind`.
    """
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    shared = "".join(letters[0] for letters in alike)
    shared = shared[: shared.rfind("=") + 1]
    return shared.removesuffix("=") or "variant", {
        name: name.removeprefix(shared) for name in names
    }


def race_section(race: Race | None) -> tuple[Section, dict[str, Picture]]:
    """Variants against each other at equal sizes and at equal training FLOPs; empty without a race."""
    if race is None:
        return Section("Race of the models", []), {}
    picture = draw_race(race)
    heading, entries = variant_column([law.name for law in race.laws])
    reference = entries[race.reference]
    rows = [
        [
            entries[one.variant],
            sum(cell.n_pairs for cell in one.cells),
            format_change(*one.mean),
            f"{one.p_value:.2g}" if np.isfinite(one.p_value) else "–",
            one.n_better,
            one.n_worse,
        ]
        for one in race.contests
    ]
    header = [heading, "pairs", f"{race.metric} minus that of {reference}", "p", "cells better", "cells worse"]  # fmt: skip
    return Section(
        "Race of the models",
        [
            Figure(picture.svg, picture.finding, picture.caption, "race"),
            Table(header, rows, f"Pairs of runs of one grade, data size and seed against {reference}."),
            Paragraph(
                "p: of no difference, corrected for the number of models (Holm). `scaling race` has the shares of compute as well.",
                "note",
            ),
        ],
    ), {"race": picture}  # fmt: skip
