"""What a study has found, one sentence each: for the titles of figures and the first screen of the report."""

from dataclasses import replace

import numpy as np

from analysis.budget import Gain, exponents_of_law, read_cost
from analysis.fit import LawFit, fit_law
from analysis.gain import AxisGain, axis_gain, loss_with
from analysis.laws import Saturating
from analysis.study_results.race import Race
from analysis.study_results.study_fits import MetricFits, StudyFits
from analysis.table import Size, size_label, sizes_text
from analysis.uncertainty import format_change, format_estimate
from scaling.errors import UserError

__all__ = [
    "STATUS_WORDS",
    "axis_gains",
    "cost_finding",
    "fit_finding",
    "frontier_finding",
    "gain_is_clear",
    "gain_sentence",
    "growth_finding",
    "holdout_finding",
    "holdout_hits",
    "race_headline",
    "residual_finding",
]


# Status of a fit -> the same in words.
STATUS_WORDS = {
    "converged": "the data determine the law",
    "at_bound": "a term of the law vanished",
    "not_identified": "the data do not determine the law",
    "too_few_points": "too few cells for the law",
    "not_converged": "the fit did not converge",
}


def gain_is_clear(gain: Gain) -> bool:
    """Whether the interval of a gain lies on one side of zero."""
    _, low, high = gain.improvement
    return bool(np.isfinite([low, high]).all()) and (low > 0 or high < 0)


def gain_sentence(gain: Gain, metric: str) -> str:
    """What more of something does to a metric, e.g. `10 x samples improve logloss by 0.0078 [0.0029, 0.0127]`."""
    change = format_change(*gain.improvement)
    if not np.isfinite(gain.improvement[1:]).all():
        return f"{gain.what} improve {metric} by {change}, with unknown error"
    if not gain_is_clear(gain):
        return f"{gain.what} change {metric} by nothing that can be told from zero: {change}"
    if gain.improvement[0] < 0:
        return f"{gain.what} make {metric} worse: {change}"
    return f"{gain.what} improve {metric} by {change}"


def growth_finding(fits: MetricFits, variable: str) -> str:
    """What ten times one size buys from the largest run; without a determined law, its status in words.

    Args:
        fits: of one metric.
        variable: of its joint law.
    """
    if not fits.tenfold:
        return fit_finding(fits)
    place = list(fits.joint.law.variables).index(variable)
    return gain_sentence(fits.tenfold[0].gains[place], fits.metric)


def fit_finding(fits: MetricFits) -> str:
    """The status of the joint law in words."""
    return f"{fits.metric}: {STATUS_WORDS[fits.joint.status]}"


def cost_finding(study: StudyFits, fits: MetricFits, column: str) -> str:
    """How the measured metric differs between the cheapest and the dearest model, at the largest data size of both."""
    rows, data = study.table, study.data.column
    cheap, dear = rows[column].min(), rows[column].max()
    both = set(rows[data][rows[column] == cheap]) & set(rows[data][rows[column] == dear])
    ratio = f"{dear / cheap:,.0f} x the cost of a sample"
    if not both:
        return f"{ratio}, without a data size that both ends of the ladder share"
    size = max(both)
    at = rows[rows[data] == size].groupby(column)[fits.metric].mean()
    change = float(at[dear] - at[cheap])
    verb = "improves" if (change > 0) == fits.joint.law.rising else "worsens"
    return f"{ratio} {verb} {fits.metric} by {abs(change):.3g} at D = {size_label(float(size))}"


def axis_gains(
    study: StudyFits, fits: MetricFits, factor: float = 10.0
) -> tuple[AxisGain, AxisGain]:
    """What `factor` times the model size, and the data size, buy among runs that share the other; needs no joint law.

    Args:
        study: with laws of two sizes.
        fits: of one of its metrics.
        factor: above 1.
    """
    size, data = study.size, study.data
    first, second = fits.joint.law.amplitudes[:2]
    of_size = {
        f"the law of {data.name} = {size_label(d)} alone": one for d, one in fits.by_size.items()
    }
    of_data = {
        f"the law of {grade if isinstance(grade, str) else f'{size.name} = {size_label(grade)}'} alone": one
        for grade, one in fits.by_data.items()
    }
    if second in fits.joint.at_bound:
        of_size |= _of_all_runs(study, fits, size, data)
    if first in fits.joint.at_bound:
        of_data |= _of_all_runs(study, fits, data, size)
    return (
        axis_gain(study.cells, fits.metric, size, data, of_size, factor=factor),
        axis_gain(study.cells, fits.metric, data, size, of_data, factor=factor),
    )


def _of_all_runs(study: StudyFits, fits: MetricFits, size: Size, other: Size) -> dict[str, LawFit]:
    """The law of one size by all runs, named as a group; nothing if the metric gets worse with the other size."""
    joint = fits.joint
    if loss_with(study.cells, fits.metric, other, size, rising=joint.law.rising) is not None:
        return {}
    law = Saturating(joint.law.rising, joint.law.limit)
    options = replace(joint.options, fixed={})
    fit = fit_law(law, study.table, x=size.column, y=fits.metric, options=options)
    return {f"the law of all runs together, as {other.name} change nothing": fit}


def holdout_finding(fits: MetricFits) -> str:
    """How many held-out cells of each cut the law's prediction intervals hold."""
    parts = [f"{cut} {hits} of {total}" for cut, (hits, total) in holdout_hits(fits).items()]
    if parts:
        return f"Held-out cells inside their 95 % interval: {', '.join(parts)}"
    rows = fits.held_out
    rows = rows[(rows["law"] == fits.joint.law.name) & rows["predicted"].notna()]
    error = np.abs(rows["relative_error"]).mean()
    return f"Predictions of held-out {fits.metric} are {error:.2%} off on average"


def holdout_hits(fits: MetricFits) -> dict[str, tuple[int, int]]:
    """Held-out cells in their prediction interval, and all that have one, for each cut; a cell may be in several cuts."""
    rows = fits.held_out
    if rows.empty or "lower" not in rows:
        return {}
    rows = rows[
        (rows["law"] == fits.joint.law.name) & rows["predicted"].notna() & rows["lower"].notna()
    ]
    return {
        str(cut): (int((part["inside"] == 1.0).sum()), len(part))
        for cut, part in rows.groupby("cut", sort=False)
    }


def residual_finding(fits: MetricFits) -> str:
    """The cell that the law misses most, in units of its noise."""
    fit, scaled = fits.joint, fits.joint.scaled_residuals
    if not np.isfinite(scaled).all():  # no noise at all
        return f"The law passes through every cell of {fits.metric}"
    worst = int(np.argmax(np.abs(scaled)))
    at = sizes_text(fit.law.variables, fit.cell_sizes[worst])
    spread = float(np.sqrt(np.mean(scaled**2)))
    return (
        f"The law misses the cells of {fits.metric} by {spread:.1f} noise sd on average, "
        f"at most by {abs(scaled[worst]):.1f} ({at})"
    )


def frontier_finding(study: StudyFits, fits: MetricFits) -> str:
    """How the best model size grows with the training FLOPs."""
    if not fits.joint.success:
        return fit_finding(fits)
    cost = read_cost(study.table, "flops", x=study.size.column, data=study.data.column)
    budgets = cost(fits.joint.cell_sizes[:, 0], fits.joint.cell_sizes[:, 1])
    try:
        law, _ = exponents_of_law(fits.joint, cost, float(budgets.min()), float(budgets.max()))
    except UserError:  # e.g. a single budget
        return fit_finding(fits)
    exponent = format_estimate(law.exponent, law.interval)
    return f"The best model grows as training FLOPs to the power {exponent}"


def race_headline(race: Race) -> str:
    """Which models differ from the reference, run by run."""
    sign = 1 if race.laws[0].fit.law.rising else -1
    alpha = 1 - race.level
    told = [one for one in race.contests if one.p_value < alpha]
    groups = {
        "better than": [one.variant for one in told if sign * one.mean[0] < 0],
        "worse than": [one.variant for one in told if sign * one.mean[0] > 0],
        "not told apart from": [one.variant for one in race.contests if not one.p_value < alpha],
    }
    parts = [f"{words} {', '.join(names)}" for words, names in groups.items() if names]
    return f"At equal grade and data, {race.reference} is {'; '.join(parts)}"
