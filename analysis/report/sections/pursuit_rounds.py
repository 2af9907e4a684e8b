"""The report's section on `scaling pursue`: one row per round, and what the last interval claims."""

from collections.abc import Sequence

from analysis.report.page import Paragraph, Section, Table
from scaling.records import PursuitRound

__all__ = ["pursuit_section"]


def pursuit_section(rounds: Sequence[PursuitRound]) -> Section:
    """The rounds of the pursuit of the study's goal; empty if there was none."""
    if not rounds:
        return Section("Pursuit of a goal", [])
    last = rounds[-1]
    text = (
        f"Goal: {last.quantity}, an interval at most {last.goal_width:g} wide that misses the truth in at most 5 % of "
        f"pursuits, for at most {last.budget:.3g} {last.unit}. Each round fits the runs so far and trains the cells that narrow the interval most per cost. "
        "Whoever ends when an interval is narrow has looked several times, so only looks that the round before has "
        "declared count, each with a part of the 5 %, at a stricter level than 95 % (column level). If each interval keeps its level, the "
        "last one misses the truth in at most 5 % of pursuits. The other widths guide the choice and claim nothing."
    )
    header = [
        "round",
        "runs",
        "interval",
        "width",
        "level",
        "trained next",
        "expected",
        "spent",
        "reason",
    ]
    rows = [
        [
            str(one.number),
            str(one.n_runs),
            _interval_text(one),
            "–" if one.width is None else f"{one.width:.3g}",
            f"{one.level:.2%}" if one.claims else f"{one.level:.0%}, not a claim",
            f"{len(one.cells)} cells for {one.cost:.3g}" if one.cells else "–",
            "–" if one.expected_width is None else f"{one.expected_width:.3g}",
            f"{one.spent:.3g}",
            one.reason,
        ]
        for one in rounds
    ]
    return Section("Pursuit of a goal", [Paragraph(text), _verdict(last), Table(header, rows)])


def _verdict(last: PursuitRound) -> Paragraph:
    if last.kind != "end":
        return Paragraph("The pursuit has not ended: `scaling pursue` goes on with it.", "note")
    if last.is_reached:
        return Paragraph(f"Reached: {_interval_text(last)} at a level of {last.level:.2%}.")
    return Paragraph(f"Not reached: {last.reason}.", "warn")


def _interval_text(one: PursuitRound) -> str:
    if one.estimate is None:
        return "–"
    low, high = ("open" if end is None else f"{end:.4g}" for end in (one.lower, one.upper))
    return f"{one.estimate:.4g} [{low}, {high}]"
