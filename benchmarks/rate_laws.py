"""How well does `scaling tune` find a planted rate law, and how often does it replace a recipe that is right?

    python benchmarks/rate_laws.py

Loss curves are steeper above their best rate than below; twice the best rate costs 0.0022, half 0.0017. The recipe is
right, wrong by powers of width and data size, or wrong by a factor of four at a corner. Takes about ten seconds.
"""

import math

import numpy as np

from analysis.study_results import ScannedRates, find_best_rates, fit_rate_law, why_keep
from scaling.study import RateLaw

WORLDS = 200
NOISES = (0.0003, 0.001, 0.003)
RECIPE = RateLaw(24, 16_384, -0.5, 0.2, learning_rate=5e-3)  # the rule about which is scanned
CORNERS = [(width, size) for width in (6, 24, 96) for size in (4_096, 65_536)]
# The grid goes on beyond the scan: costs there are those of a law that is used far from its corners.
FAR = [(width, size) for width in (6, 24, 96, 384) for size in (4_096, 65_536, 1_048_576)]
BEST = {
    "right": RateLaw(24, 16_384, 0.0, 0.0, factor=1.0),
    "wrong by powers": RateLaw(24, 16_384, -0.2, -0.05, factor=0.8),
    "wrong by 4 at a corner": RateLaw(96, 65_536, -0.25, 0.0, factor=0.25),
    "wrong by 2 everywhere": RateLaw(24, 16_384, 0.0, 0.0, factor=2.0),
}
EXPONENTS = ("width_exponent", "samples_exponent")


def recipe(corner: tuple[int, int]) -> float:
    return RECIPE.rate(*corner, math.nan)


def cost(rate: float, best: float) -> float:
    x = math.log(rate / best)
    # far below the best rate the cubic term would turn the curve down
    return 0.004 * x**2 * max(1 + 0.2 * x, 0.4)


def scan(best: RateLaw, noise: float, random: np.random.Generator) -> list[ScannedRates]:
    scans = []
    for corner in CORNERS:
        truth = best.rate(*corner, recipe(corner))
        losses: dict[float, float] = {}
        tried = [factor * recipe(corner) for factor in (0.25, 0.5, 1.0, 2.0, 4.0)]
        for _ in range(3):  # an end that is best is extended by a factor, at most twice
            losses |= {r: 0.45 + cost(r, truth) + noise * random.normal() for r in tried}
            rates = sorted(losses)
            lowest = min(losses, key=lambda rate: losses[rate])
            tried = [rates[0] / 2] * (lowest == rates[0]) + [2 * rates[-1]] * (lowest == rates[-1])
        scans.append(ScannedRates(*corner, tuple(rates), tuple(losses[r] for r in rates)))
    return scans


def largest_cost(law: RateLaw, best: RateLaw, corners: list[tuple[int, int]]) -> float:
    return max(cost(law.rate(*c, recipe(c)), best.rate(*c, recipe(c))) for c in corners)


def main() -> None:
    columns = "best rates held | exponents held | law written | then costs, median | 95 % | beyond the scan, 95 %"
    print(f"| the recipe is | noise between runs | {columns} | the recipe costs |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (name, truth), noise in ((one, noise) for one in BEST.items() for noise in NOISES):
        rates, exponents, costs, far = [], [], [], []
        for seed in range(WORLDS):
            best = find_best_rates(scan(truth, noise, np.random.default_rng(seed)))
            for one, corner in zip(best, CORNERS, strict=True):
                rates.append(one.low <= truth.rate(*corner, recipe(corner)) <= one.high)
            so_far = [recipe(corner) for corner in CORNERS]
            fit = fit_rate_law(best, so_far)
            exponents += [fit.low[n] <= getattr(truth, n) <= fit.high[n] for n in EXPONENTS]
            if not why_keep(best, fit, so_far):
                costs.append(largest_cost(fit.law, truth, CORNERS))
                far.append(largest_cost(fit.law, truth, FAR))
        tail = "– | – | –"
        if costs:
            median, high = np.quantile(costs, [0.5, 0.95])
            tail = f"{median:.4f} | {high:.4f} | {np.quantile(far, 0.95):.4f}"
        held = f"{np.mean(rates):.1%} | {np.mean(exponents):.1%} | {len(costs) / WORLDS:.1%}"
        before = largest_cost(BEST["right"], truth, CORNERS)
        print(f"| {name} | {noise} | {held} | {tail} | {before:.4f} |")


if __name__ == "__main__":
    main()
