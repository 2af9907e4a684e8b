"""From a study's folder to its table, fits, figures and one self-contained HTML report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from analysis import report_sections as sections
from analysis.figures import Picture, draw_figures, draw_latency
from analysis.html_page import page
from analysis.latency import measured_counts
from analysis.lawfit import LawFit
from analysis.study import StudyFits, fit_study
from analysis.table import default_metrics, runs_table, split_variants, write_table
from scaling.errors import UserError
from scaling.files import atomic_path, write_text
from scaling.records import RunStore

__all__ = ["AnalysisResult", "analyse", "analyse_table", "write_report"]

# Candidates of a request, if so many were measured; else the most that were.
_CANDIDATES = 100


@dataclass(frozen=True)
class AnalysisResult:
    """What an analysis made.

    Attributes:
        fits: every fit with intervals, by the name of its file.
        paths: what was written, by kind: table, fits, figures (folders) and report.
        text: cells, exponents with intervals and paths, for people.
    """

    fits: dict[str, LawFit]
    paths: dict[str, Path]
    text: str

    @property
    def success(self) -> bool:
        """Whether every joint law is determined by the data."""
        return all(fit.success for name, fit in self.fits.items() if name.endswith("-joint"))


def analyse(
    study_folder: Path,
    *,
    title: str,
    planned: pd.DataFrame | None = None,
    out: Path | None = None,
) -> AnalysisResult:
    """Analyse the finished runs of a study: writes table, fits, figures and report.

    Args:
        study_folder: the study's run folder.
        title: of the report.
        planned: one row per planned run with grade, n_samples, seed, signature and state; runs in
            the folder that are not planned are left out, and planned ones that are missing are named.
        out: where to write; the study's folder by default.

    Raises:
        UserError: there is no finished run, a record is damaged, or a file cannot be written.
    """
    table = runs_table(study_folder)
    notes = []
    if planned is not None:
        wanted = table["signature"].isin(planned["signature"])
        if not wanted.any():
            raise UserError(f"{study_folder}: none of the planned runs is finished yet")
        if not wanted.all():
            count = int((~wanted).sum())
            notes.append(f"{count} finished runs in the folder are not of this plan: left out.")
        table = table[wanted].reset_index(drop=True)
    chosen = set(table["signature"])
    records = [r for r in RunStore(study_folder).read_all() if r.signature in chosen]
    return analyse_table(
        table,
        out or study_folder,
        title=title,
        planned=planned,
        notes=notes,
        latencies=_latencies(table, study_folder),
        provenance=sections.run_provenance(records),
    )


def analyse_table(
    table: pd.DataFrame,
    out: Path,
    *,
    title: str,
    metrics: Sequence[str] | None = None,
    planned: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
    latencies: Mapping[str, Picture] = MappingProxyType({}),
    provenance: Sequence[tuple[str, str]] = (),
) -> AnalysisResult:
    """Analyse any table with n_params, n_samples and a metric; see `analyse`.

    Args:
        table: one row per run.
        out: folder that gets table.csv, fits/, figures/ and report.html.
        title: of the report.
        metrics: columns to fit; by default a falling and a rising one (`default_metrics`).
        planned: planned runs, or None.
        notes: remarks on the table for the report.
        latencies: figures of accuracy against latency, by name.
        provenance: names and values for the report's last section.

    Raises:
        UserError: a column is missing, or a file cannot be written.
    """
    wanted = list(metrics or default_metrics(table))
    if not wanted:
        raise UserError("table: neither a column logloss nor auc; name the metric with --y")
    studies = [fit_study(part, wanted, label) for label, part in split_variants(table).items()]
    paths = {
        "table": out / "table.csv",
        "fits": out / "fits",
        "figures": out / "figures",
        "report": out / "report.html",
    }
    write_table(table, paths["table"])
    fits: dict[str, LawFit] = {}
    pictures = {study.label: draw_figures(study) for study in studies}
    for study in studies:
        prefix = _slug(study.label)
        for fitted in study.metrics.values():
            fits |= {prefix + _slug(name): fit for name, fit in fitted.named().items()}
        for name, picture in pictures[study.label].items():
            _write_picture(paths["figures"] / f"{prefix}{name}.png", picture)
    for name, picture in latencies.items():
        _write_picture(paths["figures"] / f"{name}.png", picture)
    for name, fit in fits.items():
        write_text(paths["fits"] / f"{name}.json", fit.to_json() + "\n")
    write_report(
        paths["report"],
        studies,
        title=title,
        figures=pictures,
        planned=planned,
        notes=notes,
        latencies=latencies,
        provenance=provenance,
    )
    lines = [study.text() for study in studies]
    if planned is not None and (absent := sections.absent_text(planned)):
        lines.append(absent)
    lines.append("\n".join(f"{kind:<8} {path}" for kind, path in paths.items()))
    return AnalysisResult(fits, paths, "\n\n".join(lines))


def write_report(
    path: Path,
    studies: Sequence[StudyFits],
    *,
    title: str,
    figures: Mapping[str, Mapping[str, Picture]],
    planned: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
    latencies: Mapping[str, Picture] = MappingProxyType({}),
    provenance: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the report: one HTML file that needs nothing else.

    Args:
        path: the file.
        studies: one for each variant.
        title: its heading.
        figures: by name, for each variant's label.
        planned: planned runs, or None.
        notes: remarks on the table.
        latencies: figures of accuracy against latency, by name.
        provenance: names and values for the last section.
    """
    body = [sections.overview(studies, planned, notes), sections.teachers(studies)]
    for study in studies:
        body += sections.variant(study, figures.get(study.label, {}))
    body.append(sections.served(latencies))
    body += [sections.checklist(studies), sections.provenance(provenance)]
    runs = sum(len(study.table) for study in studies)
    cells = sum(len(study.cells) for study in studies)
    write_text(path, page(title, f"{runs} runs in {cells} cells.", body))


def _latencies(table: pd.DataFrame, folder: Path) -> dict[str, Picture]:
    counts = measured_counts(table, folder)
    if not counts:
        return {}
    n_candidates = _CANDIDATES if _CANDIDATES in counts else counts[-1]
    return draw_latency(table, folder, default_metrics(table), n_candidates=n_candidates)


def _write_picture(file: Path, picture: Picture) -> None:
    with atomic_path(file) as path:
        path.write_bytes(picture.png)


def _slug(text: Any) -> str:
    """A label as a part of a file's name."""
    kept = "".join(c if c.isalnum() or c in "._-" else "_" for c in str(text))
    return f"{kept}-" if kept and "=" in str(text) else kept
