"""Fit published data sets and compare the results with the published ones; writes docs/validation.md.

    python benchmarks/validation.py [FOLDER]

FOLDER contains the reference points (several have no licence, so none is distributed here); sets that are
absent are skipped. Takes about ten seconds.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.fit import FitOptions, LawFit, fit_law
from analysis.laws import Additive, Broken, DataConstrained, TiedAdditive, build_law
from analysis.optimum import Problem, gather_points
from analysis.uncertainty import bootstrap_draws
from scaling.atomic_files import write_text

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT.parent / "shared" / "reference" / "fits"
# optima that were made from runs
OPTIMA = ROOT.parent / "shared" / "cases" / "fits"
COLUMNS = {"x": "N", "data": "D", "y": "loss"}
HUBER = FitOptions(loss="huber", interval="none")


@dataclass(frozen=True)
class Row:
    """One line of the table; objectives are NaN where the source gives none.

    `agrees` is whether the numbers lie within the source's tolerance.
    """

    case: str
    what: str
    published: str
    ours: str
    published_objective: float
    objective: float
    agrees: bool
    remark: str = ""

    @property
    def holds(self) -> bool:
        """Whether the numbers agree and the objective is not worse beyond the printed digits."""
        return self.agrees and not self.objective > self.published_objective * (1 + 1e-9)


def epoch(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "epoch_chinchilla/svg_extracted_data.csv")
    table["N"] = table["Model Size"]
    table["D"] = table["Training FLOP"] / 6 / table["N"]
    return table.sort_values("loss", ignore_index=True)


def rounded(values: dict[str, float], digits: int = 6) -> str:
    return ", ".join(f"{name} {value:.{digits}g}" for name, value in values.items())


def near(fit: LawFit, expected: dict[str, float], absolute: dict[str, float]) -> bool:
    return all(abs(fit.params[name] - expected[name]) <= absolute[name] for name in expected)


def chinchilla(folder: Path) -> list[Row]:
    """R1: Epoch AI's points of Hoffmann et al. 2022 and its code's optimum (Besiroglu et al. 2024)."""
    table = epoch(folder)
    points = table[:-5]
    fit = fit_law(Additive(), points, **COLUMNS, options=HUBER)
    known = {"E": 1.817218, "A": 477.826, "B": 2143.417, "alpha": 0.3473105, "beta": 0.3671724}
    within = {"E": 1e-5, "A": 0.05, "B": 0.5, "alpha": 1e-5, "beta": 1e-5}
    rows = [
        Row("R1", "240 points read off Hoffmann et al. 2022; Huber 1e-3 of logs; optimum of 4,500 starts",
            rounded(known), rounded(fit.params), 1.01827403e-3, fit.objective, near(fit, known, within))
    ]  # fmt: skip
    paper = {"E": 1.81686, "A": 482.006, "B": 2085.434, "alpha": 0.34781, "beta": 0.36585}
    sharp = fit_law(Additive(), points, **COLUMNS, options=replace(HUBER, delta=1e-5))
    sizes = (points["N"], points["D"])
    residual = np.log(points["loss"]) - np.log(Additive()(paper, *sizes))
    inner = residual.clip(-1e-3, 1e-3)
    loose = {"E": 1e-3, "A": 4.82, "B": 62.6, "alpha": 1e-3, "beta": 1e-3}
    rows.append(
        Row("R1b", "the same, the point printed in the paper: the optimum of delta -> 0 (ours: 1e-5)",
            rounded(paper), rounded(sharp.params), float((inner * (residual - inner / 2)).sum()), fit.objective,
            near(sharp, paper, loose), "no optimum of the stated delta: objectives are those of 1e-3")
    )  # fmt: skip
    points_used = gather_points(points, ["N", "D"], "loss", residual="log")
    problem = Problem(Additive(), points_used, 1e-3, {})
    draws, _ = bootstrap_draws(problem, fit.theta, 4000, 0)
    resampled = Additive().rebased(draws, points_used.origin)
    stderr = pd.DataFrame([Additive().to_params(row) for row in resampled]).std().to_dict()
    errors = {"E": 0.02566, "A": 124.522, "B": 1293.284, "alpha": 0.01540, "beta": 0.02060}
    rows.append(
        Row("R1c", "the same, standard errors of 4,000 resamples", rounded(errors, 4),
            rounded({n: stderr[n] for n in errors}, 4), np.nan, np.nan,
            all(abs(stderr[n] / v - 1) <= (0.08 if n in "AB" else 0.05) for n, v in errors.items()))
    )  # fmt: skip
    for delta, alpha, beta in (
        (0.1, 0.36025, 0.40588),
        (0.01, 0.35442, 0.38154),
        (1e-4, 0.34741, 0.36538),
    ):
        other = fit_law(Additive(), points, **COLUMNS, options=replace(HUBER, delta=delta))
        expected = {"alpha": alpha, "beta": beta}
        rows.append(
            Row("R1d", f"the same, delta {delta:g}", rounded(expected),
                rounded({n: other.params[n] for n in expected}), np.nan, other.objective,
                near(other, expected, {"alpha": 2e-4, "beta": 2e-4}))
        )  # fmt: skip
    whole = fit_law(Additive(), table, **COLUMNS, options=HUBER)
    expected = {"E": 1.89134, "alpha": 0.34931, "beta": 0.45305}
    rows.append(
        Row("R1d", "all 245 points", rounded(expected), rounded({n: whole.params[n] for n in expected}),
            np.nan, whole.objective, near(whole, expected, dict.fromkeys(expected, 2e-4)))
    )  # fmt: skip
    return rows


def survey(folder: Path) -> list[Row]:
    """R3: the Misfitting survey's own checkpoints (Li et al. 2025)."""
    table = pd.read_csv(folder / "misfitting/scaling_results_last_ckpt_only.csv")
    fit = fit_law(Additive(), table, **COLUMNS, options=HUBER)
    tied = fit_law(TiedAdditive(), table, **COLUMNS, options=HUBER)
    known = {"alpha": 0.200196, "beta": 0.635697}
    return [
        Row("R3", "261 last checkpoints of the Misfitting survey; Huber 1e-3 of logs", rounded(known),
            rounded({n: fit.params[n] for n in known}), 0.005021654212, fit.objective,
            near(fit, known, {"alpha": 2e-4, "beta": 2e-4})),
        Row("R3", "the same, tied exponents", "alpha 0.60338", rounded({"alpha": tied.params["alpha"]}),
            0.005243705788, tied.objective, abs(tied.params["alpha"] - 0.60338) <= 2e-4),
    ]  # fmt: skip


def asymmetric(folder: Path) -> list[Row]:
    """R4: Takano's chinchilla, mean absolute error with predictions above the loss ten times as bad."""
    table = pd.read_csv(folder / "kyo/df.csv")
    fit = fit_law(
        Additive(), table, **COLUMNS, options=replace(HUBER, residual="raw", delta=1e-7, over=10.0)
    )
    residual = table["loss"] - fit.predict(table["N"], table["D"])
    error = float((np.where(residual < 0, 10, 1) * np.abs(residual)).mean())
    known = {"E": 1.70024, "A": 184.692, "B": 1633.48, "alpha": 0.289008, "beta": 0.355794}
    within = {"E": 2e-4, "A": 0.1, "B": 1.0, "alpha": 1e-4, "beta": 1e-4}
    return [
        Row("R4", "234 of the points, chinchilla 0.2: mean asymmetric absolute error (over x 10)",
            rounded(known), rounded(fit.params), 0.0227819003, error, near(fit, known, within))
    ]  # fmt: skip


def isoflops(folder: Path) -> list[Row]:
    """R5: six collections, mean raw Huber loss of vpnls 0.1 or lower."""
    table = pd.read_csv(folder / "isoflops/isoflops.csv")
    table = table.rename(columns={"params": "N", "tokens": "D"})
    known = {
        "ml_scalefit__massivetext__chinchilla": 13.098,
        "llama_3__raw_loss": 2.276,
        "marin_202603__comma__llama_2": 22.914,
        "marin_202603__dclm__llama_2": 22.930,
        "marin_202603__nemotron__llama_2": 22.614,
        "misfitting__fineweb_c4__transformer": 42.391,
    }
    rows = []
    for name, mean in known.items():
        part = table[table["experiment"] == name]
        fit = fit_law(Additive(), part, **COLUMNS, options=replace(HUBER, residual="raw"))
        ours = fit.objective / len(part) * 1e6
        rows.append(
            Row("R5", f"{name}, {len(part)} points; mean raw Huber 1e-3, x 1e6", "objective only",
                rounded(fit.params, 5), mean, ours, ours <= mean)
        )  # fmt: skip
    return rows


def overtraining(folder: Path) -> list[Row]:
    """R7: Gadre et al. 2024, four parameters from five runs."""
    known = {
        "c4_original": (113.693, 0.242472, 1.50826),
        "rpj": (166.211, 0.272851, 1.83665),
        "rw_original": (125.096, 0.254395, 1.73446),
    }
    rows = []
    for name, (amplitude, exponent, offset) in known.items():
        points = json.loads((folder / f"mlfoundations/mlf_losspoints_{name}.json").read_text())
        # C = 6 N D and D = M N; the sixth point, if any, does not belong to the loss law.
        flops, mults = (np.array(points[key])[:5] for key in ("flops", "mults"))
        table = pd.DataFrame({"N": np.sqrt(flops / 6 / mults), "loss": points["loss"][:5]})
        table["D"] = table["N"] * mults
        fit = fit_law(TiedAdditive(), table, **COLUMNS, options=FitOptions(interval="none"))
        expected = {"A": amplitude, "alpha": exponent, "E": offset}
        rows.append(
            Row("R7", f"five runs on {name} of Gadre et al. 2024; tied law, least squares",
                rounded(expected), rounded({n: fit.params[n] for n in expected}), np.nan, fit.objective,
                all(abs(fit.params[n] / v - 1) <= 1e-3 for n, v in expected.items()))
        )  # fmt: skip
    return rows


def repeated(folder: Path) -> list[Row]:
    """R8: the decay constants of repeated data (Muennighoff et al. 2023), the other parameters fixed at the published values."""
    table = pd.read_csv(folder / "datablations/c4_fit182.csv")
    alpha = 0.3526596
    held = dict(zip("ABE", np.exp([6.255414, 7.3049974, 0.6254804]).tolist(), strict=True))
    # The size that U unique samples support lies on the frontier of the law without repeats.
    balance = (held["A"] / held["B"]) ** (1 / (2 * alpha))
    supported = np.minimum(table["N"], table["U"] * balance * balance)
    table["epochs"], table["excess"] = table["D"] / table["U"], table["N"] / supported
    fit = fit_law(
        DataConstrained(),
        table,
        **COLUMNS,
        options=FitOptions(loss="huber", fixed={**held, "alpha": alpha, "beta": alpha}),
    )
    intervals = ", ".join(f"{n} {fit.estimate(n)}" for n in ("R_D", "R_N"))
    return [
        Row("R8", "182 runs with repeated data; Huber 1e-3 of logs; two decay constants free",
            "R_D 15.388, R_N 5.310", intervals, 0.015825935, fit.objective,
            fit.status == "not_identified", f"status {fit.status}")
    ]  # fmt: skip


def broken(folder: Path) -> list[Row]:
    """R9: smoothly broken law of the loss plus one, in logs (Caballero et al. 2023)."""
    table = pd.read_csv(folder / "bnsl/four_digit_addition.csv")
    table["shifted"] = table["y"] + 1
    fit = fit_law(
        Broken(limit=1.0),
        table[:14],
        x="x",
        y="shifted",
        options=FitOptions(residual="log", interval="none"),
    )
    error = np.log(fit.predict(table["x"]) - 1) - np.log(table["y"])
    train, beyond = (float(np.sqrt((part**2).mean())) for part in (error[:14], error[14:]))
    return [
        Row("R9", "four-digit addition, 14 points; error of logs on the 3 beyond them",
            "train 0.000598, beyond 0.01092", f"train {train:.6f}, beyond {beyond:.5f}",
            np.nan, np.nan, beyond <= 0.0110)
    ]  # fmt: skip


def ladder(folder: Path) -> list[Row]:
    """R10: eight tasks of the OLMo ladder; the error of the 13B model's prediction."""
    table = pd.read_csv(folder / "olmo_ladder/step1_bpb.csv").rename(columns={"bpb": "loss"})
    known = {
        "mmlu_avg_test_5shot": 0.2, "hellaswag_val_5shot": -1.2, "arc_challenge_test_5shot": 9.4,
        "arc_easy_test_5shot": 16.0, "piqa_val_5shot": -2.7, "csqa_val_5shot": -18.5,
        "socialiqa_val_5shot": 3.6, "openbookqa_test_5shot": 0.9,
    }  # fmt: skip
    rows = []
    for task, percent in known.items():
        part = table[table["task"] == task]
        train, target = part[part["mode"] == "train"], part[part["size"] == "13B-5T"].iloc[0]
        fit = fit_law(Additive(), train, **COLUMNS, options=HUBER)
        error = 100 * (float(fit.predict(target["N"], target["D"])) / target["loss"] - 1)
        holds = abs(error - percent) <= 0.1 and (
            (task == "csqa_val_5shot") == (fit.status == "at_bound")
        )
        rows.append(
            Row("R10", f"{task}: 16 runs up to 1B predict 13B", f"{percent:+.1f} %", f"{error:+.2f} %",
                np.nan, fit.objective, holds, "E at bound" if fit.at_bound == ("E",) else "")
        )  # fmt: skip
    return rows


def optima(folder: Path) -> list[Row]:
    """R11: optimal sizes and rates by size or compute, straight lines in logs.

    Porian et al. 2024 (github.com/formll/resolving-scaling-law-discrepancies), github.com/marin-community/marin issue
    8003, and the best of the runs of each N and D of Li et al. 2025 (github.com/step-law/steplaw issue 10).
    """
    cases = [
        ("porian_rw_tuned.csv", "N* of 12 budgets, Porian et al. 2024, RefinedWeb, tuned", ("flops", "", "n"),
         {"a": 0.497}, 5e-4),
        ("marin8003.csv", "T* of 3 budgets, marin issue 8003", ("flops", "", "tokens"), {"a": 0.542}, 1e-3),
        ("steplaw_optima.csv", "best rate of 17 (N, D), Step Law; published from more runs: inside our intervals",
         ("N", "D", "lr"), {"a": -0.713, "b": 0.307}, None),
        ("steplaw_optima.csv", "best batch of the same 17 runs by D; published from more runs: inside our interval",
         ("D", "", "bs"), {"a": 0.571}, None),
    ]  # fmt: skip
    own = folder / "optima"
    source = own if own.exists() else OPTIMA
    rows = []
    for name, what, (x, data, y), published, within in cases:
        law = build_law("log-linear-joint" if data else "log-linear")
        fit = fit_law(law, pd.read_csv(source / name), x=x, data=data, y=y)
        holds = all(
            value in fit.intervals[n] if within is None else abs(fit.params[n] - value) <= within
            for n, value in published.items()
        )
        ours = ", ".join(f"{n} {fit.estimate(n)}" for n in published)
        rows.append(
            Row("R11", what, rounded(published), ours, np.nan, fit.objective, holds, f"`scaling fit {name} --x {x}{' --data ' + data if data else ''} --y {y} --law {law.name}`")
        )  # fmt: skip
    return rows


# The tasks that Gadre et al. average: those in which their model of 0.154e9 parameters is well above chance.
TASKS = [
    "arc_easy",
    "bigbench_cs_algorithms",
    "bigbench_dyck_languages",
    "bigbench_novel_concepts",
    "bigbench_operators",
    "bigbench_qa_wikidata",
    "boolq",
    "commonsense_qa",
    "copa",
    "coqa",
    "hellaswag",
    "hellaswag_zeroshot",
    "lambada_openai",
    "piqa",
    "pubmed_qa_labeled",
    "squad",
    "winograd",
]


def downstream(folder: Path) -> list[Row]:
    """R12: error of 17 tasks as an exponential of the C4 loss, from six runs (Gadre et al. 2024, eq. 5, table 2)."""
    table = pd.read_csv(folder / "mlfoundations/mlf_scaling.csv")
    table["error"] = table[[f"err_{task}" for task in TASKS]].mean(axis=1)
    small, narrow = table["N"] < 2e9, table["model_name"].str.contains("d=96")
    used = (small & (table["tok_mult"] == 20)) | (narrow & (table["tok_mult"] == 320))
    rows = []
    for data, (end, amplitude, gamma) in {
        "c4_original": (0.850, 2.08, 0.756), "rpj": (0.857, 2.21, 0.715), "rw_original": (0.865, 2.21, 0.707),
    }.items():  # fmt: skip
        runs = table[used & (table["dataset_name"] == data)]
        fit = fit_law(build_law("exponential", rising=True), runs, x="loss_c4_val", y="error")
        ours = {"E": fit.params["E"], "A": fit.params["A"], "1/w": 1 / fit.params["w"]}
        known = {"E": end, "A": amplitude, "1/w": gamma}
        # half a unit of the last printed digit
        within = {"E": 5e-4, "A": 5e-3, "1/w": 5e-4}
        rows.append(
            Row("R12", f"error of 17 tasks by C4 loss, {len(runs)} runs on {data}; least squares", rounded(known),
                rounded(ours, 4), np.nan, fit.objective, all(abs(ours[n] - v) <= within[n] for n, v in known.items()),
                "`--law exponential`")
        )  # fmt: skip
    return rows


def held_out_downstream(folder: Path) -> list[Row]:
    """R13: the errors of R7 and R12 together, as printed in scaling_explorer.ipynb of mlfoundations/scaling (RedPajama)."""
    table = pd.read_csv(folder / "mlfoundations/mlf_scaling.csv")
    table["error"] = table[[f"err_{task}" for task in TASKS]].mean(axis=1)
    table = table[table["dataset_name"] == "rpj"]
    points = json.loads((folder / "mlfoundations/mlf_losspoints_rpj.json").read_text())
    flops, mults = (np.array(points[key])[:5] for key in ("flops", "mults"))
    five = pd.DataFrame({"N": np.sqrt(flops / 6 / mults), "loss": points["loss"][:5]})
    five["D"] = five["N"] * mults
    loss = fit_law(TiedAdditive(), five, **COLUMNS, options=FitOptions(interval="none"))
    narrow = table["model_name"].str.contains("d=96")
    used = ((table["N"] < 2e9) & (table["tok_mult"] == 20)) | (narrow & (table["tok_mult"] == 320))
    form = build_law("exponential", rising=True)
    error = fit_law(form, table[used], x="loss_c4_val", y="error")
    rows = []
    for model, mult, known in (("open_lm_1b", 640, (0.7103, 3.6365)), ("open_lm_7b", 20, (0.7320, 0.0464))):  # fmt: skip
        (run,) = table[(table["model_name"] == model) & (table["tok_mult"] == mult)].itertuples()
        size = float(np.sqrt(run.flops / 6 / mult))
        first = float(loss.predict(size, size * mult))
        second = float(error.predict(first))
        ours = [
            100 * abs(value / measured - 1)
            for value, measured in ((first, run.loss_c4_val), (second, run.error))
        ]
        rows.append(
            Row("R13", f"{model}, {mult} tokens per parameter, predicted from R7 and then R12 on rpj",
                f"loss {known[0]:.4f} %, error {known[1]:.4f} %", f"loss {ours[0]:.4f} %, error {ours[1]:.4f} %",
                np.nan, np.nan, all(abs(a - b) <= 5e-5 for a, b in zip(ours, known, strict=True)))
        )  # fmt: skip
    return rows


CASES: tuple[Callable[[Path], list[Row]], ...] = (
    chinchilla, survey, asymmetric, isoflops, overtraining, repeated, broken, ladder,
    optima, downstream, held_out_downstream,
)  # fmt: skip


def run(folder: Path) -> list[Row]:
    """Every case whose points are in `folder`."""
    rows = []
    for case in CASES:
        try:
            rows += case(folder)
        except FileNotFoundError as error:
            print(f"left out {case.__name__}: no {error.filename}", file=sys.stderr)
    return rows


def page(rows: list[Row]) -> str:
    """docs/validation.md."""
    lines = [
        "# Agreement with published fits",
        "",
        "`python benchmarks/validation.py FOLDER` writes this page from the published points. The points are not distributed here, because several have",
        "no licence; the script names the sources. To the printed digits, our objective is never worse than the published one;",
        "**lower** marks the cases in which the published point is not the optimum of its own objective.",
        "",
        "| | points and loss | published | ours | objective, published | ours | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        theirs = "" if np.isnan(row.published_objective) else f"{row.published_objective:.9g}"
        ours = "" if np.isnan(row.objective) else f"{row.objective:.9g}"
        lower = row.objective < row.published_objective * (1 - 1e-6)
        remarks = [
            "as published" if row.holds else "**differs**",
            "**lower**" if lower else "",
            row.remark,
        ]
        lines.append(
            f"| {row.case} | {row.what} | {row.published} | {row.ours} | {theirs} | {ours} "
            f"| {'; '.join(r for r in remarks if r)} |"
        )
    lines += [
        "",
        "In R8 the data do not determine the published number: the profile is flat to within 0.2 % for R_D from 14 to 230, and the",
        "optimum is at another point. In R10 the fit of one task (csqa) reaches the bound E = 0, and its prediction is 18 % off. R7 fits four parameters to",
        "five runs: the numbers agree, but no runs remain to test the law.",
        "",
        "Of the published numbers of R7, three digits are in the paper's table 2, the others are its code's optimum. Those of R12 on",
        "RedPajama are confirmed by R13, the errors that the authors' notebook prints; for C4 and RefinedWeb the paper's table was not",
        "at hand to compare with once more.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else REFERENCE
    found = run(source)
    if len(found) < 2:
        sys.exit(f"{source}: no reference points; docs/validation.md stays as it is")
    target = ROOT / "docs" / "validation.md"
    # further sections are other scripts'
    _, heading, further = target.read_text(encoding="utf-8").partition("\n## ")
    write_text(target, page(found) + heading + further)
    print(f"docs/validation.md: {sum(r.holds for r in found)} of {len(found)} as published")
    sys.exit(not all(row.holds for row in found))
