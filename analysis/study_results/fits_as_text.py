"""The fits of a study as text: cells, exponents, held-out scores, what ten times as much buys."""

import numpy as np

from analysis.study_results.headlines import gain_sentence
from analysis.study_results.study_fits import MetricFits, StudyFits
from analysis.table import size_label, sizes_text
from scaling.aligned_text import aligned

__all__ = ["study_text", "truth_verdict"]


def study_text(study: StudyFits) -> str:
    """Cells, exponents and held-out scores of a study as aligned text."""
    parts = [f"[{study.label}]"] if study.label else []
    for fits in study.metrics.values():
        parts += [_cells_text(study, fits.metric), _laws_text(fits)]
    return "\n\n".join(parts)


def _cells_text(study: StudyFits, metric: str) -> str:
    if not study.has_both:
        return _sizes_text(study, metric)
    cells, x, data = study.cells, study.size.column, study.data.column
    mean = cells.metrics[metric]["mean"].to_numpy()
    sizes = np.unique(cells.sizes[data])
    own = [] if study.grade == x else ["N"]
    header = [study.grade, *own, *(f"D={size_label(float(size))}" for size in sizes)]
    rows = []
    for grade, part in study.by_grade():
        values = dict(zip(part[data], mean[part.index], strict=True))
        shown = [f"{values[s]:.4f}" if s in values else "-" for s in sizes]
        size = f"{part[x].iloc[0]:,}"
        rows.append([grade, size, *shown] if own else [size, *shown])
    seeds = int(cells.n_seeds.sum())
    title = f"{metric}: {seeds} runs in {len(cells)} cell{'s' * (len(cells) > 1)}, means over seeds"
    if (x, data) != ("n_params", "n_samples"):
        title += f"; N = {x}, D = {data}"
    right = [column > 0 for column in range(len(header))]
    return f"{title}\n{aligned([header, *rows], right)}"


def _sizes_text(study: StudyFits, metric: str) -> str:
    """The cells of one size, a row each."""
    mean, column = study.cells.metrics[metric]["mean"].to_numpy(), study.size.column
    named = study.grade != column
    rows = [
        [*([grade] if named else []), f"{part[column].iloc[0]:,}", f"{mean[part.index[0]]:.4f}"]
        for grade, part in study.by_grade()
    ]
    header = [*([study.grade] if named else []), column, metric]
    seeds = int(study.cells.n_seeds.sum())
    title = f"{metric}: {seeds} runs of {len(study.cells)} sizes, means over seeds"
    return f"{title}\n{aligned([header, *rows], [i >= named for i in range(len(header))])}"


def _laws_text(fits: MetricFits) -> str:
    joint = fits.joint
    text = f"{fits.metric} = {joint.law.equation}: {joint.status}"
    lines = [text if joint.success else f"{text}, {joint.message}"]
    if joint.has_curve:
        for name in joint.shown:
            line = f"  {name:<6} {joint.estimate(name)}"
            if name == "E" and fits.truth is not None:
                line += f"   true {fits.truth:.4f}, {truth_verdict(fits)}"
            lines.append(line)
    if fits.known is not None and fits.known.has_curve:
        shapes = [shape.name for shape in joint.law.shapes]
        exponents = ", ".join(f"{n} {fits.known.estimate(n)}" for n in shapes)
        lines.append(f"  with E held at the truth: {exponents}")
    own = fits.scores[fits.scores["law"] == joint.law.name] if len(fits.scores) else fits.scores
    for score in own.to_dict("records"):
        if np.isfinite(score["mean_absolute_error"]):
            lines.append(
                f"  held out {score['cut']:<6} {score['mean_absolute_error']:.2%} off on average "
                f"(worst {score['worst_error']:+.2%}), "
                f"{round(score['inside'] * score['n_test'])} of {score['n_test']} cells inside "
                "their 95% prediction interval"
            )
        else:
            lines.append(f"  held out {score['cut']:<6} not possible: {score['status']}")
    lines += [f"  note: {note}" for note in joint.notes]
    lines += _tenfold_lines(fits)
    return "\n".join(lines)


def _tenfold_lines(fits: MetricFits) -> list[str]:
    """One line for each answer of `tenfold`."""
    lines = []
    for found in fits.tenfold:
        at = sizes_text(fits.joint.law.variables, found.sizes)
        lines.append(f"  from {found.place}, {at}:")
        lines += [f"    {gain_sentence(gain, fits.metric)}" for gain in found.gains]
    return lines


def truth_verdict(fits: MetricFits) -> str:
    """Whether the fitted E agrees with the known limit."""
    interval = fits.joint.intervals.get("E")
    if fits.truth is None or interval is None:
        return "no interval to compare it with"
    return "inside the interval" if fits.truth in interval else "OUTSIDE the interval"
