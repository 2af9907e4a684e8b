"""Whether a fitted rate law is worth more than the rule so far."""

import math
from collections.abc import Sequence

from scipy import stats

from analysis.study_results.best_rates import BestRate, RateFit

__all__ = ["why_keep"]


# Single runs tell no smaller differences apart, and another rule makes a study's finished runs useless.
_TOLERANCE = 1e-3
_ERROR_RATE = 0.05


def why_keep(best: Sequence[BestRate], fit: RateFit, rates_so_far: Sequence[float]) -> str:
    """Return why the law is not better than the rule so far; empty if it is.

    It is better if the rule's largest cost is more than 0.001 above the law's, and the rule would at some corner still
    cost 0.001 more than the law if the law's rate were as near to the rule's as its one-sided 95 % bound, corrected for
    the number of corners. Costs grow with the square of the distance in log rate.

    Args:
        best: the best rate of each corner.
        fit: the law.
        rates_so_far: the rule's rate at each corner.
    """
    so_far = [one.cost(rate) for one, rate in zip(best, rates_so_far, strict=True)]
    law = [one.cost(rate) for one, rate in zip(best, fit.rates, strict=True)]
    if max(so_far) <= _TOLERANCE:
        return f"the rule so far is within {_TOLERANCE:g} of the best rate at all corners"
    if max(so_far) <= max(law):
        return "the rule so far is at least as good"
    if max(so_far) - max(law) <= _TOLERANCE:
        return f"the largest cost of the rule so far is at most {_TOLERANCE:g} above the law's"
    quantile = float(stats.t.ppf(1 - _ERROR_RATE / len(best), fit.n_free))
    for k, error in enumerate(fit.errors):
        if math.isinf(so_far[k]) and math.isfinite(law[k]):
            return ""  # a run at the rule's rate diverged
        distance = abs(math.log(rates_so_far[k] / fit.rates[k]))
        sure = max(0.0, distance - quantile * error)
        if sure and (so_far[k] - law[k]) * (sure / distance) ** 2 > _TOLERANCE:
            return ""
    return "no difference beyond the noise of the scan"
