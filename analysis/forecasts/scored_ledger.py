"""The scores of a ledger for people: one row per forecast, the tally, and the reasons of what does not count."""

import math
from collections import Counter
from collections.abc import Sequence

from analysis.forecasts.scoring import NOT_DATED, Score

__all__ = ["score_table", "score_text"]


_HEADER = (
    *("made", "target", "metric", "law", "forecast", "95 % interval", "measured", "runs"),
    *("outcome", "error", "beyond the runs", "compute of the runs"),
)


def score_table(scores: Sequence[Score]) -> tuple[list[str], list[list[str]]]:
    """Header and rows; `error` is in half widths of the interval, the compute of the runs relative to a run at the target."""
    return list(_HEADER), [_row(score) for score in scores]


def _row(score: Score) -> list[str]:
    one = score.forecast
    if one is None:
        return [score.path.name, *["-"] * 7, score.outcome, *["-"] * 3]
    scored = score.n_runs > 0
    lower, upper = (score.lower, score.upper) if scored else (one.lower, one.upper)
    measured = f"{score.measured:.5f}"
    if math.isfinite(score.stderr):
        measured += f" ± {score.stderr:.5f}"
    reach = max(one.reach.values())
    own, target = one.spent.runs_flops, one.spent.target_flops
    return [
        one.made[:16].replace("T", " "),
        one.place,
        one.metric,
        one.law_text if one.status == "converged" else f"{one.law_text}, {one.status}",
        f"{one.value:.5f}",
        f"[{lower:.5f}, {upper:.5f}]",
        measured if scored else "-",
        str(score.n_runs) if scored else "-",
        score.outcome,
        f"{score.error:+.2f}" if scored else "-",
        ", ".join(f"{r:.3g} x {column}" for column, r in one.reach.items() if r > 1)
        if reach > 1
        else "inside",
        f"{own / target:.2g} x" if own and target else "-",
    ]


def score_text(scores: Sequence[Score]) -> list[str]:
    """The tally, then one line for each forecast without a hit or miss, with the reason."""
    counts = Counter(score.outcome for score in scores)
    n_judged = counts["hit"] + counts["miss"]
    others = [f"{n} {outcome}" for outcome, n in counts.items() if outcome not in ("hit", "miss")]
    hits = f"{counts['hit']} of {n_judged} forecasts hit" if n_judged else "no forecast is decided"
    reasons = [
        f"{score.path.name}: {score.outcome}, {score.note}"
        for score in scores
        if score.note not in ("", NOT_DATED)
    ]
    undated = sum(score.note == NOT_DATED for score in scores)
    if undated:
        reasons.append(
            f"{undated} of the hits and misses: {NOT_DATED}; a table with the column `started` does"
        )
    return ["; ".join([hits, *others]), *reasons]
