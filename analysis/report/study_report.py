"""The analysis of a study: its table, fits, figures and one self-contained HTML report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.fit import LawFit
from analysis.forecasts import LEDGER_FOLDER, Score, read_ledger, score_forecasts
from analysis.latency import Served, measured_counts, served_models
from analysis.laws import build_law
from analysis.plots import Picture, draw_figures, draw_latency
from analysis.report.page import Details, Page, Section, render_html, render_markdown
from analysis.report.safe_names import FIGURE_BYTES, file_names
from analysis.report.sections import (
    absent_text,
    ageing_section,
    answer_section,
    cells_section,
    checklist_section,
    forecast_section,
    gains_section,
    lead_sentence,
    overview_section,
    provenance_section,
    pursuit_section,
    race_section,
    run_provenance,
    served_section,
    teachers_section,
    training_section,
    truth_section,
    variant_details,
    variant_sections,
)
from analysis.report.study_document import study_document
from analysis.study_results import StudyFits, StudyLaw, fit_study, race_of_studies, study_text
from analysis.table import (
    curves_table,
    days_table,
    default_metrics,
    runs_table,
    sized_rows,
    split_variants,
    write_table,
)
from scaling.atomic_files import atomic_path, json_values, write_json, write_text
from scaling.errors import UserError
from scaling.notebook_html import notebook_text
from scaling.records import PursuitRound, RunStore, read_rounds

__all__ = ["AnalysisResult", "analyse", "analyse_table"]


# Candidates per request in the figures of latency; if nobody measured that many, the most measured.
_CANDIDATES = 100
# Bytes of the variant's part of a file name.
_VARIANT = 80
_ADDITIVE = StudyLaw()


@dataclass(frozen=True)
class AnalysisResult:
    """The fits of an analysis, and the files it wrote.

    Attributes:
        fits: every fit with intervals, by the name of its file.
        paths: the written files by kind: table, fits and figures (folders), report, markdown, document.
        text: cells, exponents with intervals, what the page says first, and paths, for people.
        success: whether the data determine every joint law.
    """

    fits: dict[str, LawFit]
    paths: dict[str, Path]
    text: str
    success: bool

    def _repr_html_(self) -> str:
        return notebook_text(self.text)


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
    rising: Mapping[str, bool] | None = None,
    law: StudyLaw = _ADDITIVE,
    notes: Sequence[str] = (),
    commands: Sequence[str] = (),
) -> AnalysisResult:
    """Analyse the finished runs of a study: write its table, fits, figures and report.

    Args:
        study_folder: the study's run folder.
        title: the report's title.
        table: the rows of the study's `runs_table` to analyse; default: all.
        planned: one row per planned run with grade, n_samples, seed, signature and state. Runs that are
            not planned are left out; planned runs that are missing are named.
        out: the folder to write to; default: the study's folder.
        metrics: columns to fit; default: one falling and one rising metric (`default_metrics`).
        x: the column of the model size.
        data: the column of the data size.
        rising: whether larger is better, for metrics whose names do not tell it.
        law: the law of all rows, and the options of every fit.
        notes: remarks on the table, for the report.
        commands: that make the report again.

    Raises:
        UserError: no run is finished, a record is damaged, or a file cannot be written.
    """
    if table is None:
        table = runs_table(study_folder)
    notes = list(notes)
    ledger = read_ledger(study_folder / LEDGER_FOLDER)
    forecasts = score_forecasts(ledger, table)
    rounds = read_rounds(study_folder)
    if planned is not None:
        pursued = [name for one in rounds for name in one.cells]  # maybe seeds beyond the grid's
        wanted = table["signature"].isin([*planned["signature"], *pursued])
        if not wanted.any():
            raise UserError(f"{study_folder}: none of the planned runs is finished yet")
        if not wanted.all():
            count = int((~wanted).sum())
            notes.append(f"{count} finished runs in the folder are not of this plan: left out.")
        table = table[wanted].reset_index(drop=True)
    chosen = set(table["signature"])
    days, curves = days_table(study_folder), curves_table(study_folder)
    records = [r for r in RunStore(study_folder).read_all() if r.signature in chosen]
    served: list[Served] = []
    try:
        served = _served(table, study_folder, metrics or default_metrics(table))
    except UserError as error:  # the laws can be reported without latencies
        notes.append(f"No figure of latency: {error}.")
    return analyse_table(
        table,
        out or study_folder,
        title=title,
        metrics=metrics,
        x=x,
        data=data,
        rising=rising,
        law=law,
        planned=planned,
        notes=notes,
        served=served,
        forecasts=forecasts,
        rounds=rounds,
        days=days[days["signature"].isin(chosen)],
        curves=curves[curves["signature"].isin(chosen)],
        provenance=run_provenance(records),
        commands=commands,
    )


def analyse_table(
    table: pd.DataFrame,
    out: Path,
    *,
    title: str,
    metrics: Sequence[str] | None = None,
    x: str = "n_params",
    data: str = "n_samples",
    rising: Mapping[str, bool] | None = None,
    law: StudyLaw = _ADDITIVE,
    planned: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
    served: Sequence[Served] = (),
    forecasts: Sequence[Score] = (),
    rounds: Sequence[PursuitRound] = (),
    days: pd.DataFrame | None = None,
    curves: pd.DataFrame | None = None,
    provenance: Sequence[tuple[str, str]] = (),
    commands: Sequence[str] = (),
) -> AnalysisResult:
    """Analyse any table with two sizes and a metric; see `analyse`.

    All results are computed before the first file is written.

    Args:
        table: one row per run.
        out: the folder that table.csv, fits/, figures/, report.html, report.md and report.json are written to.
        title: the report's title.
        metrics: columns to fit; default: one falling and one rising metric (`default_metrics`).
        x: the column of the model size.
        data: the column of the data size.
        rising: whether larger is better, for metrics whose names do not tell it.
        law: the law of all rows, and the options of every fit.
        planned: planned runs, or None.
        notes: remarks on the table, for the report.
        served: models with their latencies, for each metric.
        forecasts: the scored ledger.
        rounds: those of `scaling pursue`.
        days: the runs' metrics by day (`days_table`), or None.
        curves: their training curves (`curves_table`), or None.
        provenance: names and values for the report's last section.
        commands: that make the report again.

    Raises:
        UserError: a column is missing, a size is a metric, or a file cannot be written.
    """
    metrics = list(metrics or default_metrics(table))
    if not metrics:
        raise UserError("table: neither a column logloss nor auc; name the metrics")
    one = len(build_law(law.name).variables) == 1
    sized = sized_rows(table, x, x if one else data, metrics)
    studies = [
        fit_study(part, metrics, label, x=x, data=data, rising=rising, law=law)
        for label, part in split_variants(sized, x).items()
    ]
    pictures = {study.label: draw_figures(study) for study in studies}
    latencies = draw_latency(served)
    fits, figures = _by_file(studies, pictures)
    figures |= {n: latencies[label] for label, n in file_names(latencies, FIGURE_BYTES).items()}
    race = race_of_studies(studies, metrics[0])
    racing, raced = race_section(race)
    training, trained = training_section(sized, curves)
    figures |= raced | trained
    sections: list[Section | Details] = [
        answer_section(studies, served, planned),
        racing,
        gains_section(studies),
        *_of_variants(studies, pictures, figures),
        served_section(served, latencies),
        forecast_section(forecasts),
        overview_section(
            studies, planned, [*notes, *_size_notes(table, sized, x, x if one else data)]
        ),
        teachers_section(table, metrics),
        *(truth_section(study) for study in studies if study.has_both and not study.label),
        training,
        pursuit_section(rounds),
        ageing_section(pd.DataFrame() if days is None else days),
        cells_section(studies),
        checklist_section(studies),
        provenance_section(provenance, commands),
    ]
    lead = lead_sentence(studies, race)
    page = Page(title, lead, sections)
    document = study_document(title, studies, planned, served, forecasts, provenance, commands)
    paths = _write(out, table, fits, figures, page, document)
    success = all(m.joint.success for study in studies for m in study.metrics.values())
    return AnalysisResult(fits, paths, _text(studies, planned, lead, paths), success)


def _of_variants(
    studies: Sequence[StudyFits],
    pictures: Mapping[str, Mapping[str, Picture]],
    figures: Mapping[str, Picture],
) -> list[Section | Details]:
    """What is of one variant alone; that of several is closed at first, so that the page stays short."""
    file_of = {id(picture): name for name, picture in figures.items()}
    found: list[Section | Details] = []
    for study in studies:
        drawn = pictures[study.label]
        own = variant_sections(study, drawn, {name: file_of[id(p)] for name, p in drawn.items()})
        if not study.label:
            return [*own]
        truth = [truth_section(study)] if study.has_both else []
        found.append(variant_details(study, [*own, *truth]))
    return found


def _write(
    out: Path,
    table: pd.DataFrame,
    fits: Mapping[str, LawFit],
    figures: Mapping[str, Picture],
    page: Page,
    document: Mapping[str, Any],
) -> dict[str, Path]:
    """Write all files; return their paths by kind."""
    paths = {
        "table": out / "table.csv",
        "fits": out / "fits",
        "figures": out / "figures",
        "markdown": out / "report.md",
        "document": out / "report.json",
        "report": out / "report.html",
    }
    html, markdown = render_html(page), render_markdown(page)
    write_table(table, paths["table"])
    for name, picture in figures.items():
        with atomic_path(paths["figures"] / f"{name}.png") as path:
            path.write_bytes(picture.png)
        write_text(paths["figures"] / f"{name}.svg", picture.svg)
    for name, fit in fits.items():
        write_text(paths["fits"] / f"{name}.json", fit.to_json() + "\n")
    write_json(paths["document"], json_values(document))
    write_text(paths["markdown"], markdown)
    write_text(paths["report"], html)
    return paths


def _text(
    studies: Sequence[StudyFits],
    planned: pd.DataFrame | None,
    lead: str,
    paths: Mapping[str, Path],
) -> str:
    absent = absent_text(planned) if planned is not None else ""
    files = "\n".join(f"{kind:<8} {path}" for kind, path in paths.items())
    return "\n\n".join(
        [*(study_text(study) for study in studies), *filter(None, [absent]), lead, files]
    )


def _by_file(
    studies: Sequence[StudyFits], pictures: Mapping[str, Mapping[str, Picture]]
) -> tuple[dict[str, LawFit], dict[str, Picture]]:
    """All fits and figures, by the names of their files."""
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
    if (x, data) != ("n_params", "n_samples") and x != data:
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
