"""The sections of the report, each a function from fits to HTML; knows nothing of files."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.fit import LawFit
from analysis.plots import Picture
from analysis.report.html_page import definitions, figure, number, paragraph, section
from analysis.report.html_page import table as html_table
from analysis.study_results import MetricFits, StudyFits, truth_verdict
from analysis.table import first_few, size_label
from scaling.records import RunRecord

__all__ = ["absent_text", "checklist", "overview", "provenance", "run_provenance", "variant"]


_GRADE_COLUMNS = {
    "n_layers": "layers",
    "n_heads": "heads",
    "d": "d",
    "max_len": "behaviours L",
    "n_params": "parameters N",
    "n_embedding_params": "embedding",
    "flops_per_sample": "FLOPs/sample",
    "samples_per_second": "samples/s",
    "peak_memory_gib": "peak GiB",
}


def overview(
    studies: Sequence[StudyFits], planned: pd.DataFrame | None, notes: Sequence[str]
) -> str:
    """What was run, and what is missing."""
    table = pd.concat([study.table for study in studies], ignore_index=True)
    known = {c: name for c, name in _GRADE_COLUMNS.items() if c in table.columns}
    measured = ("samples_per_second", "peak_memory_gib")
    how = {c: "median" if c in measured else "first" for c in known}
    grades = table.sort_values("n_params").groupby("grade", sort=False).agg(how)
    rows = [[str(name), *(float(v) for v in row)] for name, *row in grades.itertuples()]
    sizes = ", ".join(f"{int(size):,}" for size in np.unique(table["n_samples"]))
    facts = [f"{len(grades)} grade{'s' * (len(grades) > 1)}, data sizes {sizes} samples."]
    if "seed" in table.columns:
        counts = pd.concat([study.cells["n_seeds"] for study in studies])
        few, many = int(counts.min()), int(counts.max())
        told = f"{many}" if few == many else f"{few} to {many}"
        facts.append(f"{told} seed{'s' * (many > 1)} per cell.")
    if "train_seconds" in table.columns:
        facts.append(f"{table['train_seconds'].sum() / 3600:.2f} hours of training in all.")
    warnings = [paragraph(note, "warn") for note in notes]
    if "data_order" in table.columns and (table["data_order"] == "shared").any():
        warnings.append(
            paragraph(
                "Grades shared one order of the training data: the luck of each data size's subset "
                "is common to its column, and intervals of E and beta are too narrow.",
                "warn",
            )
        )
    absent = absent_text(planned) if planned is not None else ""
    return section(
        "What was run",
        [
            paragraph(" ".join(facts)),
            html_table(["grade", *known.values()], rows),
            paragraph(absent, "warn") if absent else "",
            *warnings,
        ],
    )


def absent_text(planned: pd.DataFrame) -> str:
    """The planned runs that are not done, by state; empty when all are."""
    absent = planned[planned["state"] != "done"]
    if absent.empty:
        return ""
    parts = []
    for state, part in absent.groupby("state"):
        names = [
            f"{grade} D={size_label(float(size))} s{seed}"
            for grade, size, seed in part[["grade", "n_samples", "seed"]].itertuples(index=False)
        ]
        more = f" and {len(names) - 12} more" if len(names) > 12 else ""
        parts.append(f"{len(names)} {state}: {', '.join(names[:12])}{more}")
    return f"Not in the fits: {len(absent)} of {len(planned)} planned runs ({'; '.join(parts)})."


def variant(study: StudyFits, figures: Mapping[str, Picture]) -> list[str]:
    """Cells, laws, held-out scores and figures of one variant."""
    prefix = f"{study.label}: " if study.label else ""
    parts = []
    for metric, fits in study.metrics.items():
        drawn = [
            figure(picture.png, picture.caption)
            for name, picture in figures.items()
            if name.startswith(f"{metric}-")
        ]
        parts.append(
            section(
                f"{prefix}{metric}",
                [
                    _cells(study.cells, metric),
                    *drawn[:2],
                    _joint(fits),
                    _single(fits),
                    _held_out(fits),
                    section("More figures", drawn[2:], 3),
                ],
            )
        )
    return parts


def _cells(cells: pd.DataFrame, metric: str) -> str:
    sizes = np.unique(cells["n_samples"])
    rows = []
    for _, part in cells.groupby(["grade", "n_params"], sort=False):
        grade, n_params = part[["grade", "n_params"]].iloc[0]
        by_size = part.set_index("n_samples")
        shown = [
            f"{by_size[metric][s]:.5f}" + f" ({int(by_size['n_seeds'][s])})"
            if s in by_size.index
            else "–"
            for s in sizes
        ]
        rows.append([str(grade), float(n_params), *shown])
    header = ["grade", "N", *(f"D = {size_label(float(size))}" for size in sizes)]
    error = cells[f"{metric}_mean_stderr"] * np.sqrt(cells["n_seeds"])
    noise = (
        f"Seeds of one cell scatter by {float(error.iloc[0]):.5f} (pooled standard deviation)."
        if np.isfinite(error.iloc[0])
        else "No cell has two seeds: the seeds' noise is not known."
    )
    return section(
        "Cells",
        [
            html_table(header, rows),
            paragraph(f"Mean over seeds (number of seeds). {noise}", "note"),
        ],
        3,
    )


def _joint(fits: MetricFits) -> str:
    rows = [_law_row("joint", fits.joint)]
    if fits.known is not None:
        rows.append(_law_row("E held at the truth", fits.known))
    header = ["fit", "status", "E", "A", "B", "alpha", "beta", "R²", "condition", "noise sd"]
    joint = fits.joint
    parts = [
        paragraph(f"{fits.metric} = {joint.law.equation}, N = n_params, D = n_samples."),
        html_table(header, rows),
    ]
    if not joint.success:
        parts.append(paragraph(f"{joint.status.replace('_', ' ')}: {joint.message}.", "warn"))
    if fits.truth is not None:
        parts.append(
            paragraph(
                f"The true probabilities reach {fits.truth:.5f}: {truth_verdict(fits)} of the "
                "fitted E."
            )
        )
    if joint.interval_method != "none":
        source = "the seeds' pooled variance" if joint.noise.source == "seeds" else "the residuals"
        parts.append(
            paragraph(
                f"Brackets: {joint.level:.0%} profile-likelihood intervals, noise from {source} "
                f"({joint.noise.dof} degrees of freedom); an open end is not determined by the "
                "data. R² is blind to E and to the form: trust the intervals and the held-out "
                "cells.",
                "note",
            )
        )
        parts.append(paragraph(f"{joint.noise_text()[0].upper()}{joint.noise_text()[1:]}.", "note"))
    parts += [paragraph(f"Note: {note}.", "warn") for note in joint.notes]
    return section("Joint law", parts, 3)


def _law_row(name: str, fit: LawFit) -> list[str]:
    return [
        name,
        fit.status.replace("_", " "),
        *(fit.estimate(parameter) for parameter in fit.law.names),
        number(fit.r_squared),
        number(fit.condition, 3),
        f"{fit.noise.sd:.2g}",
    ]


def _single(fits: MetricFits) -> str:
    rows = []
    groups = [("n_samples", f"grade {grade}", fit) for grade, fit in fits.by_data.items()]
    groups += [
        ("n_params", f"D = {size_label(float(size))}", fit) for size, fit in fits.by_size.items()
    ]
    for x, name, fit in groups:
        if fit.has_curve:
            told = [fit.estimate(parameter) for parameter in fit.law.names]
        else:
            told = [fit.message, "", ""]
        rows.append([x, name, fit.status.replace("_", " "), *told])
    return section(
        "One axis at a time",
        [
            html_table(["x", "at", "status", "E", "A", "alpha"], rows),
            paragraph(
                "Each is fitted to a few cells only, with an E of its own that holds what the other "
                "axis leaves over; the joint law is the better determined one.",
                "note",
            ),
        ],
        3,
    )


def _held_out(fits: MetricFits) -> str:
    rows = [
        [
            score["cut"],
            score["law"],
            score["status"].replace("_", " "),
            f"{score['n_train']}",
            f"{score['n_test']}",
            f"{score['reach']:.1f}×",
            _percent(score["mean_absolute_error"]),
            _percent(score["mean_error"], sign=True),
            _percent(score["worst_error"], sign=True),
            _percent(score["inside"], digits=0),
            number(fits.rivals[score["law"]].aicc, 4),
            score["verdict"],
        ]
        for score in fits.scores.to_dict("records")
    ]
    header = [
        "held out", "law", "status", "runs below", "cells above", "reach", "mean |error|",
        "mean error", "worst", "inside 95 %", "AICc of all cells", "verdict",
    ]  # fmt: skip
    return section(
        "Held-out extrapolation",
        [
            html_table(header, rows),
            paragraph(
                "Each law is fitted to the cells below the cut and predicts those above: the largest "
                "data size, the largest model, or both (corner). Errors are relative, positive where "
                "the prediction is too high. Choose a law by this, not by AICc, which rewards forms "
                "that bend.",
                "note",
            ),
        ],
        3,
    )


def _percent(value: float, *, sign: bool = False, digits: int = 2) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:+.{digits}%}" if sign else f"{value:.{digits}%}"


def checklist(studies: Sequence[StudyFits]) -> str:
    """What a reader needs to repeat the fits or to doubt them."""
    table = pd.concat([study.table for study in studies], ignore_index=True)
    first = next(iter(studies[0].metrics.values()))
    left_out = sorted({note for s in studies for f in s.metrics.values() for note in f.joint.notes})
    left_out = [note for note in left_out if note.startswith("row ")]
    span = {c: (table[c].min(), table[c].max()) for c in ("n_params", "n_samples")}
    ranges = ", ".join(
        f"{c} {low:,} to {high:,} ({np.log10(high / low):.1f} decades)"
        for c, (low, high) in span.items()
    )
    corner = (
        first.scores[first.scores["law"] == first.joint.law.name] if len(first.scores) else None
    )
    errors = (
        ", ".join(
            f"{score['cut']} {_percent(score['mean_absolute_error'])}"
            for score in corner.to_dict("records")
        )
        if corner is not None
        else "none possible"
    )
    return section(
        "Checklist",
        [
            definitions(
                [
                    ("Form", f"{first.joint.law.equation}, {first.joint.n_free} free parameters"),
                    ("N", "parameters without the embedding tables (column n_params)"),
                    ("D", "training impressions, each seen once (column n_samples)"),
                    ("Runs", f"{len(table)}; {ranges}"),
                    ("Left out", "; ".join(left_out) or "none"),
                    ("Loss", "least squares on the cells' means, each weighing its seeds"),
                    (
                        "Optimiser",
                        "variable projection: linear part solved exactly under its bounds, a grid of "
                        "exponents as starts, the best four polished by BFGS with analytic gradients",
                    ),
                    ("Bounds", "0 <= E for falling, E <= 1 for rising metrics; A, B >= 0"),
                    ("Intervals", "95 % profile likelihood, no bootstrap"),
                    ("Held-out error", f"{first.metric}: {errors}"),
                ]
            )
        ],
    )


def run_provenance(records: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """What the runs' records say of their origin, told once."""
    seen: dict[str, dict[str, None]] = {}

    def add(name: str, value: object) -> None:
        if value not in (None, ""):
            seen.setdefault(name, {})[str(value)] = None

    for record in records:
        origin = record.provenance
        dirty = " (changed since)" if origin.get("git_dirty") else ""
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


def provenance(items: Sequence[tuple[str, str]]) -> str:
    """Where the numbers come from."""
    return section("Provenance", [definitions(items)])
