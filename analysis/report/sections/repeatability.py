"""The report's last sections: what a reader needs to repeat the fits, and the origin of the numbers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.fit import LawFit
from analysis.report.page import Commands, Definitions, Section, percent
from analysis.study_results import StudyFits
from analysis.table import Size, first_few
from scaling.records import RunRecord

__all__ = ["checklist_section", "provenance_section", "run_provenance"]


def checklist_section(studies: Sequence[StudyFits]) -> Section:
    """How the fits were made: the form, the data, the loss, the optimiser and the held-out errors."""
    table = pd.concat([study.table for study in studies], ignore_index=True)
    first = next(iter(studies[0].metrics.values()))
    size, data = studies[0].size, studies[0].data
    left_out = sorted({note for s in studies for f in s.metrics.values() for note in f.joint.notes})
    left_out = [note for note in left_out if note.startswith(("row ", "line "))]
    named = [("N", _meaning(size)), ("D", _meaning(data))]
    if not studies[0].has_both:
        named = [("x", _meaning(size))]
    fixed = first.joint.options.fixed
    held = [("Held", ", ".join(f"{n} {v:g}" for n, v in fixed.items()))] if fixed else []
    span = {c: (table[c].min(), table[c].max()) for c in (size.column, data.column)}
    ranges = ", ".join(
        f"{c} {low:,} to {high:,} ({np.log10(high / low):.1f} decades)"
        for c, (low, high) in span.items()
    )
    errors = ", ".join(
        f"{score['cut']} {percent(score['mean_absolute_error'])}"
        for score in first.scores.to_dict("records")
        if score["law"] == first.joint.law.name
    )
    return Section(
        "Checklist",
        [
            Definitions(
                [
                    ("Form", f"{first.joint.law.equation}, {first.joint.n_free} free parameters"),
                    *named,
                    ("Runs", f"{len(table)}; {ranges}"),
                    ("Left out", "; ".join(left_out) or "none"),
                    ("Loss", _loss_text(first.joint)),
                    (
                        "Optimiser",
                        "variable projection: the linear part is solved exactly within its bounds, the "
                        "exponents start on a grid, and BFGS with analytic gradients refines the best four",
                    ),
                    ("Bounds", _bounds_text(first.joint)),
                    *held,
                    ("Intervals", _intervals_text(first.joint)),
                    ("Held-out error", f"{first.metric}: {errors or 'none could be computed'}"),
                ]
            )
        ],
    )


def _loss_text(fit: LawFit) -> str:
    options = fit.options
    if options.threshold is None:
        text = "least squares on the cell means, weighted by the number of seeds"
    else:
        text = f"Huber's, with threshold {options.threshold:g}, on every row"
    if options.weights == "stderr":
        text += "; rows weighted by 1 / stderr squared"
    return text + ("; residuals of logs" if options.residual_scale == "log" else "")


def _bounds_text(fit: LawFit) -> str:
    amplitudes = ", ".join(fit.law.amplitudes)
    if fit.law.limit is None:
        return f"0 <= E for falling, E <= 1 for rising metrics; {amplitudes} >= 0"
    return f"E {'<=' if fit.law.rising else '>='} {fit.law.bound:g}; {amplitudes} >= 0"


def _intervals_text(fit: LawFit) -> str:
    level = f"{fit.options.level:.0%}".replace("%", " %")
    if fit.options.interval_method == "bootstrap":
        return f"{level} bootstrap, {fit.options.resamples} resamples"
    return f"{level} profile likelihood, no bootstrap"


def _meaning(size: Size) -> str:
    column = f"column {size.column}"
    return f"{size.meaning} ({column})" if size.meaning else column


def run_provenance(records: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """Names and values of the runs' origin from their records; each value is listed once."""
    seen: dict[str, dict[str, None]] = {}

    def add(name: str, value: object) -> None:
        if value not in (None, ""):
            seen.setdefault(name, {})[str(value)] = None

    for record in records:
        origin = record.provenance
        dirty = " (with uncommitted changes)" if origin.get("git_dirty") else ""
        commit = origin.get("git_commit")
        add("Code", f"{commit[:12]}{dirty}" if commit else None)
        for package, version in (origin.get("versions") or {}).items():
            add("Versions", f"{package} {version}" if version else None)
        add("Python", origin.get("python"))
        add("Platform", origin.get("platform"))
        add("Device", origin.get("device"))
        add("Data", origin.get("data"))
        add("Data fingerprint", record.config.data_fingerprint[:12])
        add("Command", origin.get("command"))
    times = [
        record.provenance[key]
        for record in records
        for key in ("started", "ended")
        if record.provenance.get(key)
    ]
    if times:
        add("Trained", f"{min(times)} to {max(times)}")
    return [(name, first_few(values, 6)) for name, values in seen.items()]


def provenance_section(items: Sequence[tuple[str, str]], commands: Sequence[str]) -> Section:
    """How to make the report again, and the origin of its numbers.

    Args:
        items: names and values, e.g. of `run_provenance`.
        commands: that made it.
    """
    again = Section("Make it again", [Commands(commands)], 3)
    return Section("Provenance", [again, Section("Origin of the runs", [Definitions(items)], 3)])
