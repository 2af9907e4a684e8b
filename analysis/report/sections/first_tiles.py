"""The tiles of the first screen: one question each, with the answer, its interval and how far it reaches."""

from collections.abc import Sequence

import numpy as np

from analysis.budget import (
    Cost,
    Gain,
    SizeCost,
    frontier,
    next_cells,
    read_cost,
    read_size_cost,
)
from analysis.fit import LawFit
from analysis.gain import loss_with
from analysis.latency import Served
from analysis.report.page import Answer, number, readable
from analysis.study_results import (
    STATUS_WORDS,
    MetricFits,
    StudyFits,
    axis_gains,
    gain_is_clear,
    holdout_hits,
)
from analysis.table import rises, size_label, sizes_text
from analysis.uncertainty import format_change
from scaling.errors import UserError

__all__ = [
    "axis_tiles",
    "cell_to_run",
    "doubts",
    "exponent_tiles",
    "gain_tiles",
    "held_out_tiles",
    "next_tiles",
    "outliers",
    "reach_of",
    "served_tiles",
    "short",
    "split_tiles",
    "times",
]


# Budgets of the best splits, as multiples of the cost of the largest run.
_MULTIPLES = (1.0, 10.0)
# The latency that a request may take, in ms.
_BUDGET_MS = 10.0
_NEXT_SEEDS = 3
_UNITS = {"flops": "FLOPs"}
# Beyond so many times the runs, an answer is not called sure.
_FAR = 10.5
# Below this share, a cell is not worth to be told.
_LEAST_HELP = 0.05
_LONGEST_NAME = 24
# A reach that is closer to the runs is none.
_BEYOND = 1.05


def gain_tiles(study: StudyFits, fits: MetricFits) -> list[Answer]:
    """What ten times each size buys from the largest run; without a determined law, what single axes say."""
    if not fits.tenfold:
        return axis_tiles(study, fits)
    found = fits.tenfold[0]
    sizes = sizes_text(fits.joint.law.variables, found.sizes)
    is_doubtful = bool(doubts(fits))
    tiles = []
    for gain in found.gains:
        reach = reach_of(fits.joint, gain)
        detail = (
            f"{short(fits.metric)} {format_change(*gain.improvement)}",
            f"from {found.place}, {sizes}",
            _reach_text(reach),
        )
        is_sure = gain_is_clear(gain) and not is_doubtful and reach <= _FAR
        tiles.append(Answer(times(gain.what), _amount(gain), detail, "sure" if is_sure else "open"))
    return tiles


def axis_tiles(study: StudyFits, fits: MetricFits) -> list[Answer]:
    """What ten times each size buys without a joint law: by the law of the largest model, or data size, alone."""
    if not study.has_both:
        reason = readable(fits.joint.message)
        return [Answer(f"10 × {study.size.name}", "cannot be told yet", (reason,), "none")]
    tiles = []
    for found in axis_gains(study, fits):
        asked = f"10 × {found.size.name}"
        if found.loss is not None:
            low, high = (
                size_label(float(end))
                for end in (
                    study.table[found.size.column].min(),
                    study.table[found.size.column].max(),
                )
            )
            detail = (
                f"{short(fits.metric)} is worse by {number(found.loss, 2)} on average",
                f"from {low} to {high}, with equal {found.other.name}",
            )
            tiles.append(Answer(asked, "more is worse", detail, "open"))
        elif found.gain is not None:
            told = (
                f"{short(fits.metric)} {format_change(*found.gain.improvement)}",
                _reach_text(found.reach),
                f"by {found.told_by}",
            )
            tiles.append(Answer(asked, _amount(found.gain), told, "open"))
        else:
            tiles.append(Answer(asked, "cannot be told yet", (readable(found.reason),), "none"))
    return tiles


def split_tiles(study: StudyFits, fits: MetricFits) -> list[Answer]:
    """The best split of the largest run's cost and of ten times that."""
    if len(fits.tenfold) < 2:
        return []
    joint = fits.joint
    cost = read_cost(study.table, "flops", x=study.size.column, data=study.data.column)
    largest = float(cost(*fits.tenfold[0].sizes))
    is_doubtful = bool(doubts(fits))
    tiles = []
    assumed = () if "flops" in study.table.columns else ("no column flops: 6 N D",)
    for factor, point in zip(
        _MULTIPLES, frontier(joint, cost, [f * largest for f in _MULTIPLES]), strict=True
    ):
        n, d = (
            f"{symbol} = {size_label(size[0])} [{size_label(size[1])}, {size_label(size[2])}]"
            for symbol, size in (("N", point.n_params), ("D", point.n_samples))
        )
        value = f"N = {size_label(point.n_params[0])}, D = {size_label(point.n_samples[0])}"
        budget = number(point.budget, 2)
        named = "the largest run's" if factor == 1 else f"{factor:g} × the largest run's"
        tiles.append(
            Answer(
                f"Best use of {budget} {_UNITS.get(cost.unit, cost.unit)} ({named})",
                value,
                (
                    n,
                    d,
                    f"{short(fits.metric)} {format_change(*point.metric)}",
                    _reach_text(point.reach),
                    *assumed,
                ),
                "sure" if point.reach <= _FAR and not is_doubtful else "open",
            )
        )
    return tiles


def exponent_tiles(fits: MetricFits) -> list[Answer]:
    """Whether the data determine the law, its exponents and E."""
    joint = fits.joint
    if not joint.has_curve:
        return []
    names = [shape.name for shape in joint.law.shapes]
    shown = [*names, *(["E"] if "E" in joint.shown else [])]
    words = STATUS_WORDS[joint.status]
    is_sure = joint.success and not doubts(fits)
    detail = [f"{name} = {readable(joint.estimate(name))}" for name in shown]
    if fits.truth is not None:
        detail.append(f"true E = {fits.truth:.4f}")
    if not joint.success:
        detail.append(readable(joint.message))
    detail.append(f"{short(fits.metric)} = {joint.law.equation}")
    return [Answer("Exponents", words, tuple(detail), "sure" if is_sure else "open")]


def held_out_tiles(fits: MetricFits) -> list[Answer]:
    """How the law predicts cells that it has not seen."""
    hits = holdout_hits(fits)
    if not hits or not fits.joint.has_curve:
        return []
    n_inside, n_all = (sum(counts) for counts in zip(*hits.values(), strict=True))
    detail = [
        f"{cut}: {inside} of {total} inside their 95 % interval"
        for cut, (inside, total) in hits.items()
    ]
    is_bad = any(map(_is_missed, hits.values()))
    value = "few are predicted" if is_bad else f"{n_inside} of {n_all} predictions hold"
    return [Answer("Tested on held-out cells", value, tuple(detail), "open" if is_bad else "sure")]


def next_tiles(study: StudyFits, fits: MetricFits) -> list[Answer]:
    """What to run or to do next."""
    rising = fits.joint.law.rising
    worse = (
        study.has_both
        and loss_with(study.cells, fits.metric, study.size, study.data, rising=rising) is not None
    )
    if worse and not fits.joint.success:
        reason = "no law falls with the size while larger models are worse; scaling tune checks their learning rates"
        return [Answer("Do next", "find out why larger models are worse", (reason,), "open")]
    found = cell_to_run(study, fits.joint)
    if found is None:
        return []
    text, reason, shrinks = found
    if shrinks < _LEAST_HELP:
        detail = (
            f"the best, {text}, {reason}",
            "sizes beyond the grid or seeds in all cells help more",
        )
        return [Answer("Run next", "no single cell helps much", detail, "open")]
    return [
        Answer("Run next", text, (reason, "scaling next weighs other cells and quantities"), "sure")
    ]


def served_tiles(served: Sequence[Served], metric: str) -> list[Answer]:
    """The best model that answers a request in time."""
    one = next((one for one in served if one.metric == metric), None)
    if one is None:
        return []
    asked = f"Served in {_BUDGET_MS:g} ms at p99"
    within = one.models[one.models["p99_ms"] <= _BUDGET_MS]
    if within.empty:
        fastest = one.models.iloc[0]
        return [
            Answer(
                asked,
                "no model",
                (f"fastest: {fastest['model']}, {fastest['p99_ms']:.3g} ms",),
                "open",
            )
        ]
    up = rises(metric)
    best = within.sort_values(metric, ascending=not up).iloc[0]
    top = one.models.sort_values(metric, ascending=not up).iloc[0]
    detail = [
        f"{metric} {best[metric]:.4f}, p99 {best['p99_ms']:.2g} ms for {one.n_candidates} candidates"
    ]
    if top["model"] != best["model"]:
        detail.append(
            f"without the limit: {top['model']}, {metric} {top[metric]:.4f}, {top['p99_ms']:.2g} ms"
        )
    return [Answer(asked, str(best["model"]), tuple(detail), "sure")]


def cell_to_run(study: StudyFits, fit: LawFit) -> tuple[str, str, float] | None:
    """The cell that would narrow the worst-known exponent, what it does, and the share by which it narrows it; None if no cell can be told.

    Of the cells that narrow it at least half as much as any, that is the cheapest.
    """
    names = [shape.name for shape in fit.law.shapes if shape.name in fit.intervals]
    names = [name for name in names if name not in fit.at_bound]
    if not fit.has_curve or not fit.noise.dof or not names or "flops" in fit.columns.values():
        return None
    name = max(names, key=lambda n: _relative_width(fit, n))
    x, data = study.size.column, study.data.column
    try:
        cost: Cost | SizeCost = read_size_cost(study.table, "flops", x=x)
        if study.has_both:
            cost = read_cost(study.table, "flops", x=x, data=data)
        table = next_cells(fit, cost, quantity=name, seeds=_NEXT_SEEDS)
    except UserError:
        return None
    useful = table[table["shrinks"] >= table["shrinks"].max() / 2]
    best = useful.sort_values("cost").iloc[0]
    if not best["shrinks"] > 0:
        return None
    if study.has_both:
        axes = zip((study.size, study.data), best.iloc[:2], strict=True)
        sizes = ", ".join(f"{a.symbol or a.name} = {size_label(float(v))}" for a, v in axes)
    else:
        sizes = f"{size_label(float(best.iloc[0]))} {study.size.name}"
    present = f" beside the {best['n_runs']:.0f} there" if best["n_runs"] else ""
    shrinks = float(best["shrinks"])
    return (
        f"{_NEXT_SEEDS} runs at {sizes}{present}",
        f"narrows {name} by about {shrinks:.0%}",
        shrinks,
    )


def _amount(gain: Gain) -> str:
    amount = format_change(*gain.improvement).partition(" ")[0].lstrip("-")
    value = f"{amount} {'better' if gain.improvement[0] > 0 else 'worse'}"
    if not np.isfinite(gain.improvement[1:]).all():
        return f"{value}, error unknown"
    return value if gain_is_clear(gain) else "nothing told from zero"


def doubts(fits: MetricFits) -> list[str]:
    """What speaks against the law: remarks on its fit, and held-out cells that its intervals miss."""
    told = [
        note
        for note in fits.joint.notes
        if note.startswith("lack of fit") or "deviate together" in note
    ]
    told += outliers(fits)
    missed = [
        f"{cut} {hits} of {total}"
        for cut, (hits, total) in holdout_hits(fits).items()
        if _is_missed((hits, total))
    ]
    if missed and fits.joint.success:
        told.append(
            f"few held-out cells lie in their 95 % interval ({', '.join(missed)}); the cells of a cut share errors, so that few may miss together"
        )
    return told


def outliers(fits: MetricFits) -> list[str]:
    """Remarks on runs far off the law, whatever its status, and what to do; a robust loss names `outliers`, and is no advice then."""
    advice = "look at this run; `--loss huber` lets it count less"
    return [
        f"{note}; {advice}" if note.startswith("outlier: ") else note
        for note in fits.joint.notes
        if note.startswith(("outlier: ", "outliers: "))
    ]


def _is_missed(counts: tuple[int, int]) -> bool:
    """Whether fewer than half of the held-out cells of a cut are inside their interval."""
    n_inside, n_all = counts
    return n_inside < n_all / 2


def reach_of(fit: LawFit, gain: Gain) -> float:
    """How many times the largest size of the runs a gain ends at; 1 inside them."""
    largest = fit.cell_sizes.max(axis=0)
    reach = max(size / end for size, end in zip(gain.after, largest, strict=True))
    return float(reach) if reach > _BEYOND else 1.0


def _reach_text(reach: float) -> str:
    return f"{number(reach, 2)} × beyond the runs" if reach > _BEYOND else "inside the runs"


def _relative_width(fit: LawFit, name: str) -> float:
    interval = fit.intervals[name]
    if interval.is_open:
        return float("inf")
    return (interval.upper - interval.lower) / max(abs(fit.params[name]), 1e-12)


def short(metric: str) -> str:
    """A metric name that leaves a tile its room."""
    return metric if len(metric) <= _LONGEST_NAME else f"{metric[: _LONGEST_NAME - 1]}…"


def times(what: str) -> str:
    """A gain's name for people."""
    return what.replace(" x ", " × ", 1).replace("flops, split best", "FLOPs, split best")
