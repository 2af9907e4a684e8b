"""The report's section on generated logs: what the models have learned of the known click probability."""

from collections.abc import Sequence

from analysis.plots import draw_learned
from analysis.report.page import Figure, Paragraph, Section, Table
from analysis.study_results import LearnedParts, StudyFits, learned_parts
from analysis.table import Size, size_label

__all__ = ["truth_section"]


_MEASURES = {
    "excess_logloss": "excess logloss",
    "rank_floor": "floor of d numbers",
    "unexplained_excess": "outside the components",
}


def truth_section(study: StudyFits) -> Section:
    """The anatomy of the gap to the true probabilities; empty for real logs."""
    parts = learned_parts(study.table, study.size, study.data)
    title = "What the models have learned" + (f": {study.label}" if study.label else "")
    if parts is None:
        return Section(title, [])
    picture = draw_learned(parts)
    return Section(
        title,
        [
            Paragraph(
                "The true logit of a generated log is a sum of known components. A model's logits on the test part are "
                "regressed on them: a slope of 1 means that a component is learned in full, 0 that it is ignored. The "
                "floor is the least excess logloss of the best linear representation of items by d numbers, d the "
                "width of an embedding; a SUAN also embeds the category, so it can be below. The last column is the part "
                "of the excess that the slopes do not explain: errors in rows of the table that few samples have seen."
            ),
            Figure(picture.svg, picture.finding, picture.caption),
            *_tables(parts),
        ],
    )


def _tables(parts: LearnedParts) -> Sequence[Paragraph | Table]:
    blocks: list[Paragraph | Table] = []
    for cells, along, fixed in (
        (parts.by_size, parts.size, parts.data),
        (parts.by_data, parts.data, parts.size),
    ):
        at = size_label(float(cells[fixed.column].iloc[0]))
        header = [_heading(along), *parts.components, *(_MEASURES[name] for name in parts.measures)]
        rows = [
            [
                size_label(float(cell[along.column])),
                *(f"{cell[name]:.2f}" for name in parts.components),
                *(f"{cell[name]:.4f}" for name in parts.measures),
            ]
            for cell in cells.to_dict("records")
        ]
        blocks += [Paragraph(f"By {along.name}, at {at} {fixed.name}."), Table(header, rows)]
    return blocks


def _heading(size: Size) -> str:
    return size.symbol or size.name
