"""Exponents of N*(C) from simulated and published IsoFLOP runs; writes a section of docs/validation.md.

    python benchmarks/isoflop.py [FOLDER] [--worlds 1000]

FOLDER contains the published points (they have no licence, so none is distributed here); sets that are absent are
skipped. 1,000 studies of one setting take about a minute on one core.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.budget import isoflop, read_cost, three_approaches
from analysis.fit import fit_law
from analysis.laws import Additive, build_law
from analysis.uncertainty import format_estimate
from scaling.atomic_files import write_text
from scaling.errors import UserError

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "validation.md"
PUBLISHED = ROOT.parent / "shared" / "cases" / "fits"
PROFILES = ROOT.parent / "shared" / "reference" / "fits" / "isoflops" / "isoflops.csv"
# experiment, what it is, published exponents (Hoffmann et al. 2022, table 2; Grattafiori et al. 2024, section 3.2.1)
EXPERIMENTS = (
    ("epochai_chinchilla__massivetext__chinchilla", "123 runs of Hoffmann et al. 2022, read off a figure", "published a 0.49, b 0.51 (10th and 90th percentiles 0.462 and 0.534, 0.483 and 0.529)"),
    ("llama_3__raw_loss", "133 runs of Llama 3", "published b 0.53"),
    ("marin_202603__comma__llama_2", "85 runs of Marin on Comma", ""),
    ("marin_202603__nemotron__llama_2", "88 runs of Marin on Nemotron", ""),
)  # fmt: skip
HEADING = "## Exponents of the best sizes"
# Hoffmann et al. 2022, as fitted by Besiroglu et al. 2024
PARAMS = {"E": 1.8172, "A": 477.84, "B": 2143.4, "alpha": 0.3473, "beta": 0.3672}
TRUE = PARAMS["beta"] / (PARAMS["alpha"] + PARAMS["beta"])
# what, budgets, sizes, half span of the sizes as a factor, drift of their centre over the budgets in logs, sd of a
# run, sd of a budget's own shift of the minimum in logs, spread of the FLOPs within a budget
SETTINGS = (
    ("6 budgets over 3 decades, 7 sizes within a factor of 3 of the best", 6, 7, 3.0, 0.0, 0.004, 0.0, 0.0),
    ("4 budgets, 5 sizes", 4, 5, 3.0, 0.0, 0.004, 0.0, 0.0),
    ("9 budgets, 5 sizes", 9, 5, 3.0, 0.0, 0.004, 0.0, 0.0),
    ("noise 2.5 times as large", 6, 7, 3.0, 0.0, 0.01, 0.0, 0.0),
    ("the sizes' centre drifts by a factor of 2 over the budgets", 6, 7, 3.0, 0.7, 0.004, 0.0, 0.0),
    ("sizes within a factor of 8", 6, 7, 8.0, 0.0, 0.004, 0.0, 0.0),
    ("sizes within a factor of 8, drift", 6, 7, 8.0, 0.7, 0.004, 0.0, 0.0),
    ("15 sizes within a factor of 30, the centre drifts by a factor of 10", 6, 15, 30.0, 2.3, 0.004, 0.0, 0.0),
    ("4 sizes within a factor of 4, the centre drifts by a factor of 6", 12, 4, 4.0, 1.8, 0.002, 0.0, 0.0),
    ("FLOPs of a budget differ by up to 9 %", 6, 7, 3.0, 0.0, 0.004, 0.0, 0.09),
    ("each budget shifts its minimum by 15 %", 6, 7, 3.0, 0.0, 0.004, 0.15, 0.0),
)  # fmt: skip


def best_size(budget: float) -> float:
    """The best model size of a budget of 6 N D (Hoffmann et al. 2022, eq. 4)."""
    a, b, alpha, beta = (PARAMS[name] for name in ("A", "B", "alpha", "beta"))
    return float((alpha * a / (beta * b) * (budget / 6) ** beta) ** (1 / (alpha + beta)))


def simulated(
    random: np.random.Generator,
    budgets: int,
    sizes: int,
    span: float,
    drift: float,
    sd: float,
    shift: float,
    spread: float,
) -> pd.DataFrame:
    """One IsoFLOP study with a known law."""
    rows = []
    for place, budget in zip(
        np.linspace(-0.5, 0.5, budgets), np.geomspace(1e18, 1e21, budgets), strict=True
    ):
        centre = best_size(budget) * np.exp(drift * place)
        n = np.geomspace(centre / span, centre * span, sizes)
        own = budget * random.uniform(1, 1 + spread, sizes)
        moved = n * np.exp(random.normal(0, shift))
        loss = Additive()(PARAMS, moved, own / 6 / moved) + random.normal(0, sd, sizes)
        rows.append(
            pd.DataFrame({"n_params": n, "n_samples": own / 6 / n, "flops": own, "loss": loss})
        )
    return pd.concat(rows, ignore_index=True)


def coverage(worlds: int) -> list[str]:
    """Lines of the table of simulated studies."""
    lines = [
        "| studies | the truth inside the 95 % interval of a | mean error of a | median width | refused |",
        "|---|---|---|---|---|",
    ]
    for what, *setting in SETTINGS:
        random = np.random.default_rng(0)
        errors, widths, inside, refused = [], [], 0, 0
        for _ in range(worlds):
            try:
                found = isoflop(simulated(random, *setting), "loss", n_draws=400).size
            except UserError:
                refused += 1
                continue
            assert found.interval is not None
            errors.append(found.exponent - TRUE)
            widths.append(found.interval.upper - found.interval.lower)
            inside += TRUE in found.interval
        share = inside / len(errors)
        line = f"| {what} | {share:.1%} | {np.mean(errors):+.4f} | {np.median(widths):.4f} | {refused} |"
        print(line, flush=True)
        lines.append(line)
    return lines


def published(folder: Path) -> list[str]:
    """Lines on the published points that are here."""
    lines = []
    points = folder / "porian_rw_tuned.csv"
    if points.exists():
        law = fit_law(build_law("log-linear"), pd.read_csv(points), x="flops", y="n")
        lines.append(
            "| best sizes of 12 budgets, Porian et al. 2024 (RefinedWeb, tuned) | a regression in logs "
            f"(`scaling fit --x flops --y n --law log-linear`) | {law.estimate('a')} | |"
        )
    points = folder / "isoflop_dclm.csv"
    if points.exists():
        lines += _approaches(
            "79 IsoFLOP runs on DCLM (Open-Athena/scaling-law-analysis)", pd.read_csv(points)
        )
    if PROFILES.exists():
        every = pd.read_csv(PROFILES).rename(
            columns={"params": "n_params", "tokens": "n_samples", "budget": "flops"}
        )
        for name, what, known in EXPERIMENTS:
            lines += _approaches(what, every[every["experiment"] == name], known)
            if known:
                lines += _approaches(what, every[every["experiment"] == name], known, within=1e3)[
                    :1
                ]
    if not lines:
        return []
    header = ["| points | how | a of N\\* ~ C^a | b of D\\* ~ C^b |", "|---|---|---|---|"]
    return [*header, *lines, ""]


def _approaches(what: str, table: pd.DataFrame, known: str = "", within: float = 5.0) -> list[str]:
    """A line for each approach that the table allows; only the profiles if `within` is not the default."""
    fit = fit_law(Additive(), table, x="n_params", data="n_samples", y="loss")
    cost = read_cost(table, "flops", x="n_params", data="n_samples")
    lines = []
    for one in three_approaches(table, fit, cost, tolerance=0.05, within=within)[0]:
        if one.size is None or one.samples is None:
            continue
        notes = [one.remark.replace("*", r"\*")]
        if one.name.startswith("2"):
            notes += [f"`--within {within:g}`"] * (within != 5.0) + [known] * bool(known)
        a, b = (format_estimate(law.exponent, law.interval) for law in (one.size, one.samples))
        lines.append(f"| {what} | approach {one.name}: {'; '.join(notes)} | {a} | {b} |")
    return lines


def main() -> None:
    """Run both parts and replace the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=PUBLISHED)
    parser.add_argument("--worlds", type=int, default=1000)
    options = parser.parse_args()
    lines = [
        HEADING,
        "",
        "`python benchmarks/isoflop.py FOLDER` writes this section ([how the exponents are estimated](fitting.md#how-the-best-sizes-grow-with-compute)).",
        "",
        *published(options.folder),
        f"{options.worlds:,} simulated IsoFLOP studies each, with the law of Hoffmann et al. 2022 (as fitted by Besiroglu et al. 2024), a = {TRUE:.4f}:",
        "",
        *coverage(options.worlds),
        "",
        "Profiles of an additive law have one shape around their minima, so a parabola's bias cancels in a as long as the sizes lie around the minimum in the",
        "same way at every budget. Far from it they do not, and a parabola through all sizes is pulled to their middle; hence `--within`, 5 if not given.",
        "With `--within 1000`, which fits all sizes, the profiles of Hoffmann et al. give the exponents that they published.",
        "",
    ]
    before = PAGE.read_text(encoding="utf-8").partition(HEADING)[0].rstrip()
    write_text(PAGE, before + "\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
