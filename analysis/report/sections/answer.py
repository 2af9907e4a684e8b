"""The first screen: the tiles of one variant, and what ten times each size buys for all metrics and variants."""

from collections.abc import Sequence

import pandas as pd

from analysis.latency import Served
from analysis.report.page import (
    Answers,
    Block,
    Details,
    Paragraph,
    Section,
    Table,
    number,
    readable,
)
from analysis.report.sections.first_tiles import (
    axis_tiles,
    cell_to_run,
    doubts,
    exponent_tiles,
    gain_tiles,
    held_out_tiles,
    next_tiles,
    outliers,
    reach_of,
    served_tiles,
    short,
    split_tiles,
    times,
)
from analysis.report.sections.training_runs import variant_column
from analysis.study_results import (
    STATUS_WORDS,
    Race,
    StudyFits,
    gain_sentence,
    race_headline,
)
from analysis.table import LABELS, sizes_text
from analysis.uncertainty import format_change

__all__ = ["answer_section", "gains_section", "lead_sentence", "variant_details"]


def lead_sentence(studies: Sequence[StudyFits], race: Race | None) -> str:
    """What the study says of its first metric, in one or two sentences.

    Args:
        studies: one for each variant.
        race: of the variants, if they can be compared.
    """
    fits = next(iter(studies[0].metrics.values()))
    if len(studies) > 1:
        said = [f"{race_headline(race)}."] if race is not None else []
        return " ".join([*said, *_range_of_gains(studies, fits.metric)])
    if not fits.tenfold:
        known = [
            f"{one.asked}: {one.value} ({one.detail[-1]})."
            for one in axis_tiles(studies[0], fits)
            if one.mood != "none"
        ]
        return " ".join(
            [
                *known,
                f"{fits.metric}: {STATUS_WORDS[fits.joint.status]}: {readable(fits.joint.message)}.",
            ]
        )
    found = fits.tenfold[0]
    return "From the largest run: " + " ".join(
        f"{_spoken(sentence)}."
        for sentence in (gain_sentence(gain, short(fits.metric)) for gain in found.gains)
    )


def answer_section(
    studies: Sequence[StudyFits], served: Sequence[Served], planned: pd.DataFrame | None
) -> Section:
    """The answers on the first metric as tiles, of several variants as a table, and those of one variant on all metrics as a table."""
    first = studies[0]
    fits = next(iter(first.metrics.values()))
    tiles = served_tiles(served, fits.metric)
    parts: list[Paragraph | Answers | Table] = []
    if len(studies) == 1:
        own = [
            *gain_tiles(first, fits),
            *split_tiles(first, fits),
            *exponent_tiles(fits),
            *held_out_tiles(fits),
        ]
        parts.append(Answers([*own, *tiles, *next_tiles(first, fits)]))
        parts += [
            Paragraph(f"{note[0].upper()}{readable(note[1:])}.", "warn") for note in doubts(fits)
        ]
    else:
        parts += [Answers(tiles), _by_variant(studies, fits.metric)]
        parts += [
            Paragraph(f"{study.label}: {readable(note)}.", "warn")
            for study in studies
            for note in outliers(study.metrics[fits.metric])
        ]
    counted = sum(len(study.table) for study in studies)
    cells = sum(len(study.cells) for study in studies)
    absent = 0 if planned is None else int((planned["state"] != "done").sum())
    missing = f"; {absent} of {len(planned)} planned runs are missing" if absent and planned is not None else ""  # fmt: skip
    parts.append(
        Paragraph(
            f"From {counted} run{'s' * (counted > 1)} in {cells} cell{'s' * (cells > 1)}{missing}. Brackets are 95 % intervals; an improvement is positive if the "
            "metric gets better. Whatever lies beyond the runs is extrapolated by the law.",
            "note",
        )
    )
    meanings = [f"{name}: {LABELS[name]}" for name in studies[0].metrics if name in LABELS]
    parts.append(Paragraph("; ".join(meanings) + "." * bool(meanings), "note"))
    if len(studies) == 1:
        parts.append(_every_gain(studies))
    return Section("What this study says", parts)


def gains_section(studies: Sequence[StudyFits]) -> Section:
    """What ten times each size buys, for all metrics of several variants; empty for one, whose first screen has it."""
    several = studies if len(studies) > 1 else ()
    table = Details("The gains of all variants and metrics", [_every_gain(several)])
    return Section("What ten times as much buys", [table])


def variant_details(study: StudyFits, parts: Sequence[Block]) -> Details:
    """What is of one of several variants alone, under its status and what ten times the data, or the only size, buy.

    Args:
        study: the variant.
        parts: its sections.
    """
    fits = next(iter(study.metrics.values()))
    if fits.tenfold:
        gains = fits.tenfold[0].gains
        gain = _spoken(gain_sentence(gains[1 if study.has_both else 0], short(fits.metric)))
    else:
        tile = axis_tiles(study, fits)[-1]
        gain = f"{tile.asked}: {tile.value}"
    return Details(study.label, parts, f"{STATUS_WORDS[fits.joint.status]}; {gain}")


def _range_of_gains(studies: Sequence[StudyFits], metric: str) -> list[str]:
    """The least and the greatest gain from ten times the data, or the only size, over the variants whose law is known."""
    known = {
        study.label: study.metrics[metric].tenfold[0].gains[-1 if not study.has_both else 1]
        for study in studies
        if study.metrics[metric].tenfold
    }
    if not known:
        return [f"{metric}: the data determine the law of no variant."]
    ordered = sorted(known.items(), key=lambda one: one[1].improvement[0])
    ends = [
        f"{format_change(*gain.improvement)} ({name})" for name, gain in (ordered[0], ordered[-1])
    ]
    what = times(ordered[0][1].what)
    told = f"{what} improve {metric} by {' to '.join(dict.fromkeys(ends))}"
    absent = len(studies) - len(known)
    return [
        told
        + (f"; {absent} variant{'s' * (absent > 1)} without a determined law." if absent else ".")
    ]


def _by_variant(studies: Sequence[StudyFits], metric: str) -> Table:
    """One row per variant: status, what ten times each size buys, exponents, the cell to run next."""
    laws = [study.metrics[metric] for study in studies]
    shapes = [shape.name for shape in laws[0].joint.law.shapes]
    names = [*shapes, *(["E"] if "E" in laws[0].joint.shown else [])]
    sizes = list(laws[0].joint.law.variables)
    heading, entries = variant_column([study.label for study in studies])
    rows = []
    for study, fits in zip(studies, laws, strict=True):
        gains = fits.tenfold[0].gains if fits.tenfold else ()
        known = dict(zip(sizes, gains, strict=False))
        rows.append(
            [
                entries[study.label],
                STATUS_WORDS[fits.joint.status],
                *(format_change(*known[v].improvement) if v in known else "–" for v in sizes),
                *(fits.joint.estimate(n) if fits.joint.has_curve else "–" for n in names),
                (cell_to_run(study, fits.joint) or ("–",))[0],
            ]
        )
    header = [heading, "status", *(f"10 × {v} buys" for v in sizes), *names, "run next"]
    return Table(header, rows, f"Laws of {metric}, {laws[0].joint.law.equation}.")


def _every_gain(studies: Sequence[StudyFits]) -> Table:
    """What ten times each size buys, for every metric, from the largest run and from the best split of its cost."""
    several = len(studies) > 1
    heading, entries = variant_column([study.label for study in studies])
    rows = [
        [
            *([entries[study.label]] if several else []),
            metric,
            found.place.removeprefix("the ").removesuffix(" of its cost"),
            times(gain.what),
            format_change(*gain.improvement),
            number(reach, 2) if (reach := reach_of(fits.joint, gain)) > 1 else "inside",
        ]
        for study in studies
        for metric, fits in study.metrics.items()
        for found in fits.tenfold
        for gain in found.gains
    ]
    header = [
        *([heading] if several else []),
        "metric",
        "from",
        "more of",
        "improvement",
        "× beyond the runs",
    ]
    splits = [
        f"{entries[study.label] if several else ''} {metric}".strip()
        + f" {sizes_text(fits.joint.law.variables, found.sizes)}"
        for study in studies
        for metric, fits in study.metrics.items()
        for found in fits.tenfold[1:]
    ]
    caption = "What ten times as much buys, by the fitted law of each metric."
    if splits:
        caption += f" Best split of the largest run's cost: {'; '.join(splits)}."
    return Table(header, rows, caption)


def _spoken(sentence: str) -> str:
    return readable(times(sentence))
