"""The report's sections on the laws of one variant: cells, joint law, one axis at a time, held-out cells."""

from collections.abc import Mapping

import numpy as np

from analysis.plots import Picture
from analysis.report.page import (
    Block,
    Figure,
    Paragraph,
    Section,
    Table,
    decimals_of,
    number,
    percent,
    to_decimals,
)
from analysis.study_results import (
    MetricFits,
    StudyFits,
    grade_label,
    largest_cells,
    truth_verdict,
)
from analysis.table import size_label

__all__ = ["variant_sections"]


_SOURCES = {
    "seeds": "the seeds' pooled variance",
    "settings": "the pooled variance of rows that differ in more than the seed",
}
_KINDS = {"profile": "profile-likelihood", "bootstrap": "bootstrap", "wald": "Wald"}


def variant_sections(
    study: StudyFits, figures: Mapping[str, Picture], file_of: Mapping[str, str]
) -> list[Section]:
    """One section per metric of a variant: cells, laws, held-out scores and figures.

    Args:
        study: the variant.
        figures: by name.
        file_of: the file of each figure, without its ending.
    """
    prefix = f"{study.label}: " if study.label else ""
    parts = []
    for metric, fits in study.metrics.items():
        drawn = [
            Figure(picture.svg, picture.finding, picture.caption, file_of.get(name, ""))
            for name, picture in figures.items()
            if name.startswith(f"{metric}-")
        ]
        parts.append(
            Section(
                f"{prefix}{metric}",
                [
                    _cells(study, metric) if study.has_both else _sizes(study, metric),
                    *drawn[:2],
                    _joint(fits),
                    *([_single(study, fits)] if study.has_both else []),
                    _held_out(fits),
                    Section("More figures", drawn[2:], 3),
                ],
            )
        )
    return parts


def _cells(study: StudyFits, metric: str) -> Section:
    cells, x, data = study.cells, study.size.column, study.data.column
    means, n_seeds = cells.metrics[metric], cells.n_seeds.to_numpy()
    mean = means["mean"].to_numpy()
    decimals = decimals_of(means["mean_stderr"].to_numpy()) + 1
    sizes = np.unique(cells.sizes[data])
    rows = []
    for grade, part in study.by_grade():
        texts = {
            size: f"{to_decimals(mean[cell], decimals)} ({n_seeds[cell]})"
            for cell, size in zip(part.index, part[data], strict=True)
        }
        model = float(part[x].iloc[0])
        whole = int(model) if model.is_integer() else model
        rows.append([grade, whole, *(texts.get(size, "–") for size in sizes)])
    header = [study.grade, "N", *(f"D = {size_label(float(size))}" for size in sizes)]
    return Section("Cells", [Table(header, rows), _noise_of_seeds(study, metric)], 3)


def _sizes(study: StudyFits, metric: str) -> Section:
    """The cells of a law of one size."""
    x, n_seeds = study.size.column, study.cells.n_seeds.to_numpy()
    means = study.cells.metrics[metric]
    mean, decimals = means["mean"].to_numpy(), decimals_of(means["mean_stderr"].to_numpy()) + 1
    own = [] if study.grade == x else ["grade"]
    rows = []
    for grade, part in study.by_grade():
        size, cell = float(part[x].iloc[0]), part.index[0]
        named = [grade] if own else []
        whole = int(size) if size.is_integer() else size
        rows.append([*named, whole, f"{to_decimals(mean[cell], decimals)} ({n_seeds[cell]})"])
    return Section("Cells", [Table([*own, x, metric], rows), _noise_of_seeds(study, metric)], 3)


def _noise_of_seeds(study: StudyFits, metric: str) -> Paragraph:
    error = study.cells.metrics[metric]["mean_stderr"] * np.sqrt(study.cells.n_seeds.to_numpy())
    noise = (
        f"The standard deviation over the seeds of a cell is {number(float(error.iloc[0]), 2)} (pooled)."
        if np.isfinite(error.iloc[0])
        else "No cell has two seeds, so the noise of the seeds is not known."
    )
    return Paragraph(f"Mean over seeds (number of seeds). {noise}", "note")


def _joint(fits: MetricFits) -> Section:
    joint = fits.joint
    both = len(joint.columns) > 1
    own = {"joint" if both else joint.law.name: joint}
    if fits.known is not None:
        own["E held at the truth"] = fits.known
    rows = [["status", *(fit.status.replace("_", " ") for fit in own.values())]]
    rows += [[name, *(fit.estimate(name) for fit in own.values())] for name in joint.shown]
    rows += [
        ["R²", *(number(fit.r_squared) for fit in own.values())],
        ["condition", *(number(fit.condition, 3) for fit in own.values())],
        ["noise sd of a run", *(f"{fit.noise.sd:.2g}" for fit in own.values())],
    ]
    named = ", ".join(f"{variable} = {column}" for variable, column in joint.columns.items())
    parts: list[Block] = [
        Paragraph(f"{fits.metric} = {joint.law.equation}, {named}."),
        Table(["fit", *own], rows),
    ]
    if not joint.success:
        parts.append(Paragraph(f"{joint.status.replace('_', ' ')}: {joint.message}.", "warn"))
    if fits.truth is not None:
        parts.append(
            Paragraph(
                f"The true probabilities reach {fits.truth:.5f}: {truth_verdict(fits)} of the "
                "fitted E."
            )
        )
    if joint.interval_method != "none":
        source = _SOURCES.get(joint.noise.source, "the residuals")
        parts.append(
            Paragraph(
                f"Brackets: {joint.options.level:.0%} {_KINDS[joint.interval_method]} intervals, noise from {source} "
                f"({joint.noise.dof} degrees of freedom). The data do not determine an open end. R² "
                "says nothing about E or the form: trust the intervals and the held-out cells.",
                "note",
            )
        )
        parts.append(Paragraph(f"{joint.noise_text()[0].upper()}{joint.noise_text()[1:]}.", "note"))
    parts += [Paragraph(f"Note: {note}.", "warn") for note in joint.notes]
    return Section("Joint law" if both else "Law", parts, 3)


def _single(study: StudyFits, fits: MetricFits) -> Section:
    rows = []
    x, data = study.size.column, study.data.column
    groups = [
        (data, f"{study.grade} {grade_label(grade)}", fit) for grade, fit in fits.by_data.items()
    ]
    groups += [(x, f"D = {size_label(float(size))}", fit) for size, fit in fits.by_size.items()]
    for column, name, fit in groups:
        if fit.has_curve:
            values = [fit.estimate(parameter) for parameter in fit.law.names]
        else:
            values = [fit.message, "", ""]
        rows.append([column, name, fit.status.replace("_", " "), *values])
    return Section(
        "One axis at a time",
        [
            Table(["x", "at", "status", "E", "A", "alpha"], rows),
            Paragraph(
                "Each law is fitted to a few cells only. Its E includes the other axis's share of the "
                "loss. The joint law is better determined.",
                "note",
            ),
        ],
        3,
    )


def _held_out(fits: MetricFits) -> Section:
    rows = [
        [
            score["cut"],
            score["law"],
            score["status"].replace("_", " "),
            f"{score['n_train']}",
            f"{score['n_test']}",
            f"{score['reach']:.1f}×",
            percent(score["mean_absolute_error"]),
            percent(score["mean_error"], sign=True),
            percent(score["worst_error"], sign=True),
            percent(score["inside"], digits=0),
            number(fits.rivals[score["law"]].aicc, 4),
            score["verdict"],
        ]
        for score in fits.scores.to_dict("records")
    ]
    header = [
        "held out", "law", "status", "runs below", "cells above", "reach", "mean |error|",
        "mean error", "worst", "inside 95 %", "AICc of all cells", "verdict",
    ]  # fmt: skip
    return Section(
        "Held-out extrapolation",
        [
            Table(header, rows),
            Paragraph(_additive_verdict(fits)),
            Paragraph(
                f"Each law is fitted to the cells below the cut and predicts the cells above it: {_cut_text(fits)}. Errors are relative, and "
                "positive if the prediction is too high. Choose a law by these errors, not by AICc, "
                "which favours curved forms.",
                "note",
            ),
            *_largest(fits),
        ],
        3,
    )


def _cut_text(fits: MetricFits) -> str:
    if len(fits.joint.columns) == 1:
        return "the largest size"
    return "the largest data size, the largest model, or both (corner)"


def _additive_verdict(fits: MetricFits) -> str:
    """The F test of the additive law against the bottleneck law; empty if there is none."""
    fit = fits.rivals.get("bottleneck")
    if fit is None or fit.law.simpler is None or not np.isfinite(fit.simpler_p):
        return ""
    verdict = next(note for note in fit.notes if note.startswith(f"the {fit.law.simpler[0]} law"))
    return f"Against the bottleneck law {fit.law.equation}, fitted to all cells with g = {fit.params['g']:.2f}, {verdict}."


def _largest(fits: MetricFits) -> list[Block]:
    """The largest held-out cell of each cut, as each law predicts it."""
    largest = largest_cells(fits.held_out)
    rows = []
    for cell in largest.to_dict("records"):
        sizes = [size_label(float(cell[name])) for name in largest.columns[3:-5]]
        held = {1.0: "yes", 0.0: "no"}.get(cell["inside"], "–")
        interval = f"[{number(cell['lower'])}, {number(cell['upper'])}]"
        rows.append(
            [
                cell["cut"],
                *sizes,
                cell["law"],
                number(cell["measured"]),
                number(cell["predicted"]),
                interval if np.isfinite(cell["lower"]) else "–",
                held,
            ]
        )
    header = [
        "held out", *fits.joint.columns, "law", "measured", "predicted", "95 % interval", "holds it",
    ]  # fmt: skip
    text = "The largest held-out cell of each cut: nearest prediction first."
    return [Paragraph(text if rows else ""), Table(header, rows)]
