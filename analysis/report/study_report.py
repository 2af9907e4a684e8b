"""From a study's folder to its table, fits, figures and one self-contained HTML report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.fit import LawFit
from analysis.latency import Served, measured_counts, served_models
from analysis.plots import Picture, draw_figures, draw_latency
from analysis.report import sections as sections
from analysis.report import served_models as report_serving
from analysis.report.html_page import page
from analysis.report.safe_names import FIGURE_BYTES, file_names
from analysis.study_results import StudyFits, fit_study
from analysis.table import default_metrics, named_sizes, runs_table, split_variants, write_table
from scaling.atomic_files import atomic_path, write_text
from scaling.errors import UserError
from scaling.records import RunStore

__all__ = ["AnalysisResult", "analyse", "analyse_table"]


# Candidates of a request, if so many were measured; else the most that were.
_CANDIDATES = 100
# Bytes of a file's name for the variant.
_VARIANT = 80


@dataclass(frozen=True)
class AnalysisResult:
    """What an analysis made.

    Attributes:
        fits: every fit with intervals, by the name of its file.
        paths: what was written, by kind: table, fits, figures (folders) and report.
        text: cells, exponents with intervals and paths, for people.
        success: whether every joint law is determined by the data.
    """

    fits: dict[str, LawFit]
    paths: dict[str, Path]
    text: str
    success: bool


def analyse(
    study_folder: Path,
    *,
    title: str,
    table: pd.DataFrame | None = None,
    planned: pd.DataFrame | None = None,
    out: Path | None = None,
    metrics: Sequence[str] | None = None,
    x: str = "n_params",
    data: str = "n_samples",
    notes: Sequence[str] = (),
) -> AnalysisResult:
    """Analyse the finished runs of a study: writes table, fits, figures and report.

    Args:
        study_folder: the study's run folder.
        title: of the report.
        table: the rows of its `runs_table` to analyse; all by default.
        planned: one row per planned run with grade, n_samples, seed, signature and state; runs in
            the folder that are not planned are left out, and planned ones that are missing are named.
        out: where to write; the study's folder by default.
        metrics: columns to fit; by default a falling and a rising one (`default_metrics`).
        x: column of the model's size.
        data: column of the data size.
        notes: remarks on the table for the report.

    Raises:
        UserError: there is no finished run, a record is damaged, or a file cannot be written.
    """
    if table is None:
        table = runs_table(study_folder)
    told = list(notes)
    if planned is not None:
        wanted = table["signature"].isin(planned["signature"])
        if not wanted.any():
            raise UserError(f"{study_folder}: none of the planned runs is finished yet")
        if not wanted.all():
            count = int((~wanted).sum())
            told.append(f"{count} finished runs in the folder are not of this plan: left out.")
        table = table[wanted].reset_index(drop=True)
    chosen = set(table["signature"])
    records = [r for r in RunStore(study_folder).read_all() if r.signature in chosen]
    served: list[Served] = []
    try:
        served = _served(table, study_folder, metrics or default_metrics(table))
    except UserError as error:  # what cannot be compared by latency still has its laws
        told.append(f"No figure of latency: {error}.")
    return analyse_table(
        table,
        out or study_folder,
        title=title,
        metrics=metrics,
        x=x,
        data=data,
        planned=planned,
        notes=told,
        served=served,
        provenance=sections.run_provenance(records),
    )


def analyse_table(
    table: pd.DataFrame,
    out: Path,
    *,
    title: str,
    metrics: Sequence[str] | None = None,
    x: str = "n_params",
    data: str = "n_samples",
    planned: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
    served: Sequence[Served] = (),
    provenance: Sequence[tuple[str, str]] = (),
) -> AnalysisResult:
    """Analyse any table with two sizes and a metric; see `analyse`.

    Everything is made before the first file is written.

    Args:
        table: one row per run.
        out: folder that gets table.csv, fits/, figures/ and report.html.
        title: of the report.
        metrics: columns to fit; by default a falling and a rising one (`default_metrics`).
        x: column of the model's size.
        data: column of the data size.
        planned: planned runs, or None.
        notes: remarks on the table for the report.
        served: models with their latencies, for each metric.
        provenance: names and values for the report's last section.

    Raises:
        UserError: a column is missing, a size is a metric, or a file cannot be written.
    """
    wanted = list(metrics or default_metrics(table))
    if not wanted:
        raise UserError("table: neither a column logloss nor auc; name the metric with --y")
    sized = named_sizes(table, x, data, wanted)
    notes = [*notes, *_size_notes(table, sized, x, data)]
    studies = [fit_study(part, wanted, label) for label, part in split_variants(sized).items()]
    pictures = {study.label: draw_figures(study) for study in studies}
    latencies = draw_latency(served)
    paths = {
        "table": out / "table.csv",
        "fits": out / "fits",
        "figures": out / "figures",
        "report": out / "report.html",
    }
    fits, drawn = _by_file(studies, pictures)
    drawn |= {name: latencies[label] for label, name in file_names(latencies, FIGURE_BYTES).items()}
    body = [sections.overview(studies, planned, notes), report_serving.teachers(table, wanted)]
    for study in studies:
        body += sections.variant(study, pictures[study.label])
    body.append(report_serving.served(served, latencies))
    body += [sections.checklist(studies), sections.provenance(provenance)]
    n_cells = sum(len(study.cells) for study in studies)
    html = page(title, f"{len(sized)} runs in {n_cells} cells.", body)
    lines = [study.text() for study in studies]
    if planned is not None and (absent := sections.absent_text(planned)):
        lines.append(absent)
    lines.append("\n".join(f"{kind:<8} {path}" for kind, path in paths.items()))
    write_table(table, paths["table"])
    for name, picture in drawn.items():
        with atomic_path(paths["figures"] / f"{name}.png") as path:
            path.write_bytes(picture.png)
    for name, fit in fits.items():
        write_text(paths["fits"] / f"{name}.json", fit.to_json() + "\n")
    write_text(paths["report"], html)
    success = all(m.joint.success for study in studies for m in study.metrics.values())
    return AnalysisResult(fits, paths, "\n\n".join(lines), success)


def _by_file(
    studies: Sequence[StudyFits], pictures: Mapping[str, Mapping[str, Picture]]
) -> tuple[dict[str, LawFit], dict[str, Picture]]:
    """Every fit and every figure by the name of its file."""
    prefixes = file_names((study.label for study in studies), _VARIANT)
    fits: dict[str, LawFit] = {}
    drawn: dict[str, Picture] = {}
    for study in studies:
        prefix = f"{prefixes[study.label]}-" if study.label else ""
        own = {name: fit for m in study.metrics.values() for name, fit in m.named().items()}
        fits |= {prefix + name: own[label] for label, name in file_names(own, FIGURE_BYTES).items()}
        figures = pictures[study.label]
        drawn |= {
            prefix + name: figures[label]
            for label, name in file_names(figures, FIGURE_BYTES).items()
        }
    return fits, drawn


def _size_notes(table: pd.DataFrame, sized: pd.DataFrame, x: str, data: str) -> list[str]:
    notes = []
    if (x, data) != ("n_params", "n_samples"):
        notes.append(f"N is the column {x}, D the column {data}.")
    if absent := len(table) - len(sized):
        notes.append(f"{absent} of {len(table)} runs have no teacher, so no {x}: left out.")
    return notes


def _served(table: pd.DataFrame, folder: Path, metrics: Sequence[str]) -> list[Served]:
    counts = measured_counts(table, folder)
    if not counts:
        return []
    n_candidates = _CANDIDATES if _CANDIDATES in counts else counts[-1]
    return [served_models(table, folder, m, n_candidates=n_candidates) for m in metrics]
