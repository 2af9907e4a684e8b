"""How well does `scaling tune` find a planted rate law? Intervals that hold the truth, and what the law costs.

    python benchmarks/rate_laws.py

Loss curves are steeper above their best rate than below; twice the best rate costs 0.0022, half 0.0017. Takes about five seconds.
"""

import math

import numpy as np

from analysis.study_results import ScannedRates, find_best_rates, fit_rate_law
from scaling.study import RateLaw

WORLDS = 200
PLANTED = RateLaw(4e-3, 24, 16_384, -0.7, 0.15)
RECIPE = RateLaw(5e-3, 24, 16_384, -0.5, 0.2)  # the rule about which is scanned
CORNERS = [(width, size) for width in (6, 24, 96) for size in (4_096, 65_536)]
EXPONENTS = ("width_exponent", "samples_exponent")


def cost(rate: float, best: float) -> float:
    x = math.log(rate / best)
    return 0.004 * x**2 * (1 + 0.2 * x)


def scan(noise: float, random: np.random.Generator) -> list[ScannedRates]:
    scans = []
    for corner in CORNERS:
        rates = tuple(factor * RECIPE.rate(*corner) for factor in (0.25, 0.5, 1.0, 2.0, 4.0))
        losses = (0.45 + cost(r, PLANTED.rate(*corner)) + noise * random.normal() for r in rates)
        scans.append(ScannedRates(*corner, rates, tuple(losses)))
    return scans


def main() -> None:
    print("| noise between runs | best rates held | exponents held | median largest cost | 95 % |")
    print("|---|---|---|---|---|")
    for noise in (0.0003, 0.001, 0.003):
        rates, exponents, costs = [], [], []
        for seed in range(WORLDS):
            best = find_best_rates(scan(noise, np.random.default_rng(seed)))
            for one, corner in zip(best, CORNERS, strict=True):
                rates.append(one.low <= PLANTED.rate(*corner) <= one.high)
            fit = fit_rate_law(best, width_exponent=-0.5, samples_exponent=0.2)
            exponents += [fit.low[n] <= getattr(PLANTED, n) <= fit.high[n] for n in EXPONENTS]
            costs.append(max(cost(fit.law.rate(*c), PLANTED.rate(*c)) for c in CORNERS))
        median, high = np.quantile(costs, [0.5, 0.95])
        held = f"{np.mean(rates):.1%} | {np.mean(exponents):.1%}"
        print(f"| {noise} | {held} | {median:.4f} | {high:.4f} |")
    largest = max(cost(RECIPE.rate(*c), PLANTED.rate(*c)) for c in CORNERS)
    print(f"the recipe's largest cost: {largest:.4f}")


if __name__ == "__main__":
    main()
