"""The report's section on forecasts: what was forecast before it was trained, and what came of it."""

from collections.abc import Sequence

from analysis.forecasts import Score, score_text
from analysis.report.page import Paragraph, Section, Table, Value
from analysis.uncertainty import format_change

__all__ = ["forecast_section"]


_HEADER = (
    "target",
    "metric",
    "law",
    "forecast",
    "measured",
    "outcome",
    "error",
    "beyond",
    "compute",
    "made",
)


def forecast_section(scores: Sequence[Score]) -> Section:
    """The whole ledger, misses included; empty without a forecast."""
    if not scores:
        return Section("Forecasts", [])
    tally, *reasons = score_text(scores)
    return Section(
        "Forecasts",
        [
            Paragraph(f"{tally[0].upper()}{tally[1:]}."),
            Table(_HEADER, [_row(score) for score in scores], sortable=True),
            *(Paragraph(f"{reason}.", "warn") for reason in reasons),
            Paragraph(
                "A forecast counts only if it is older than its target's runs, and is kept unchanged. It hits if the mean of "
                "the target's runs lies in the 95 % prediction interval of the mean of as many runs. The error is "
                "measured minus forecast, in half widths of that interval. Beyond: the target's size over the "
                "largest one that the law was fitted to. Compute: the training FLOPs of all runs behind the "
                "law over those of one run at the target.",
                "note",
            ),
        ],
    )


def _row(score: Score) -> list[object]:
    """One forecast; its numbers are rounded by its interval."""
    one = score.forecast
    if one is None:
        return [score.path.name, *["–"] * 4, score.outcome, *["–"] * 4]
    scored = score.n_runs > 0
    lower, upper = (score.lower, score.upper) if scored else (one.lower, one.upper)
    forecast = format_change(one.value, lower, upper)
    digits = len(forecast.partition(" ")[0].partition(".")[2])
    runs = f" ({score.n_runs} run{'s' * (score.n_runs > 1)})"
    own, target = one.spent.runs_flops, one.spent.target_flops
    reach = max(one.reach.values())
    return [
        one.place,
        one.metric,
        one.law_text
        if one.status == "converged"
        else f"{one.law_text}, {one.status.replace('_', ' ')}",
        Value(one.value, forecast),
        Value(score.measured, f"{score.measured:.{digits}f}{runs}") if scored else "–",
        score.outcome,
        Value(score.error, f"{score.error:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0"))
        if scored
        else "–",
        Value(reach, f"{reach:.3g} ×" if reach > 1 else "inside"),
        Value(own / target, f"{own / target:.2g} ×") if own and target else "–",
        one.made[:10],
    ]
