"""Writes numbers of the pages from the results that are kept in docs/studies/; `make docs` runs it, a test holds the pages to it.

A sentence or a row of a table is a template here, with a field for each number: the page says the same words, and its numbers
are replaced. A number's interval belongs to its field.
"""

import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from scaling.cli import main

__all__ = ["PAGES", "renewed"]

ROOT = Path(__file__).resolve().parents[1]
STUDIES = ROOT / "docs" / "studies"
# A page's templates, each with the texts of its fields.
Fact = tuple[str, tuple[str, ...]]
_NUMBER = r"[-+]?(?:\d[\d,]*)?(?:\.\d+|(?<=\d))(?:e-?\d+)?"
_INTERVAL = r"\[[^\]|]*\]"


@cache
def _answer(*words: str) -> Any:
    """Return what a verb prints with --json; a path is one in docs/studies/."""
    words = tuple(str(STUDIES / word) if word.endswith(".csv") else word for word in words)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main(["--quiet", *words, "--json"])
    return json.loads(out.getvalue())


def _interval(value: float, lower: float, upper: float, shape: str) -> str:
    return f"{value:{shape}} [{lower:{shape}}, {upper:{shape}}]"


def _estimate(fit: Any, name: str, shape: str) -> str:
    interval = fit["intervals"][name]
    lower = "open" if interval["open_lower"] else f"{interval['lower']:{shape}}"
    return f"{fit['params'][name]:{shape}} [{lower}, {interval['upper']:{shape}}]"


def _rows_of_cells(table: pd.DataFrame, metric: str) -> Iterator[Fact]:
    """A row for each grade: its size, and the means over the seeds."""
    means = table.pivot_table(metric, index=["n_params", "grade"], columns="n_samples")
    for (size, grade), row in means.iterrows():
        texts = (f"{size:,}", *(f"{value:.4f}" for value in row))
        yield f"| {grade} |" + " {} |" * len(texts), texts


@cache
def _three_orders() -> dict[str, Any]:
    runs = "three-orders/runs.csv"
    table = pd.read_csv(STUDIES / runs)
    truth = float(table["bayes_logloss"].iloc[0])
    gains = _answer("gain", runs)["from"][0]["gains"]
    return {
        "table": table,
        "truth": truth,
        "fit": _answer("fit", runs),
        "held": _answer("fit", runs, "--hold", f"E={truth}"),
        "auc": _answer("fit", runs, "--y", "soft_auc"),
        "gains": {gain["what"]: gain["improvement"] for gain in gains},
        "scores": _answer("forecast", runs, "--score"),
    }


def _change(improvement: list[float]) -> str:
    """An improvement of a logloss as its change: the sign is turned, and so are the ends."""
    value, lower, upper = improvement
    return _interval(-value, -upper, -lower, ".4f")


def _readme() -> Iterator[Fact]:
    three = _three_orders()
    yield "of {} runs on a generated log", (f"{len(three['table'])}",)
    yield (
        "ten times the data lower the logloss by {},",
        (f"{three['gains']['10 x samples'][0]:.4f}",),
    )
    yield (
        "{} (95 % interval), and the truth, {}, is inside",
        (_estimate(three["fit"], "E", ".3f"), f"{three['truth']:.4f}"),
    )
    yield from _shares(three, "Its {} forecasts (", "from {} % of the FLOPs, all hit")


def _shares(
    three: dict[str, Any], forecasts: str, flops: str, shape: str = ".0f"
) -> Iterator[Fact]:
    scores = three["scores"]
    assert all(score["outcome"] == "hit" for score in scores), "the pages say that all hit"
    yield forecasts, (f"{len(scores)}",)
    share = 100 * scores[0]["runs_flops"] / three["table"]["flops"].sum()
    yield flops, (f"{share:{shape}}",)


def _gallery() -> Iterator[Fact]:
    three = _three_orders()
    yield "known truth, {} runs,", (f"{len(three['table'])}",)
    yield from _shares(three, "{} forecasts from", "forecasts from {} % of the FLOPs all hit")


def _three_orders_page() -> Iterator[Fact]:
    three = _three_orders()
    table, fit, held = three["table"], three["fit"], three["held"]
    yield "the true probabilities on the test part, {}.", (f"{three['truth']:.5f}",)
    yield "is the table of all {} runs", (f"{len(table)}",)
    yield from _rows_of_cells(table, "soft_logloss")
    truth = f"{three['truth']:.4f}"
    yield "| E | {} (true {}) | {} |", (_estimate(fit, "E", ".4f"), truth, truth)
    for name, shape in (("alpha", ".2f"), ("beta", ".3f")):
        texts = (_estimate(fit, name, shape), _estimate(held, name, shape))
        yield f"| {name} | {{}} | {{}} |", texts
    auc = (_estimate(three["auc"], "E", ".4f"), f"{table['bayes_auc'].iloc[0]:.4f}")
    yield "is `converged`, too: E = {}, true {}.", auc
    gains = three["gains"]
    yield (
        "from W64 at 8.4 million: data {}; a model ten times as large {}.",
        (_change(gains["10 x samples"]), _change(gains["10 x parameters"])),
    )
    names = {2**19: "524k", 2**21: "2.1M", 2**23: "8.4M"}
    for score in three["scores"]:
        if score["law"] == "additive" and not score["assumed"]:
            cell = f"{score['grade']}, {names[score['target']['n_samples']]}"
            yield f"| {cell} | {{}} | {{}} | {{}} | {{}} |", _scored(score)
    yield from _shares(three, "{} forecasts of the six", "with {} % of the FLOPs and 17 %", ".1f")


def _scored(score: Any) -> tuple[str, ...]:
    ends = f"[{score['lower']:.4f}, {score['upper']:.4f}]"
    values = (f"{score['predicted']:.4f}", ends, f"{score['measured']:.4f}")
    return (*values, f"{score['error']:+.2f}")


def _movielens() -> Iterator[Fact]:
    scores = {
        (
            score["target"]["n_params"],
            score["target"]["n_samples"],
            score["metric"],
            score["law"],
        ): (_scored(score))
        for score in _answer("forecast", "movielens-forecast/runs.csv", "--score")
    }
    size = max(key[0] for key in scores)
    laws = ("tied", "multiplicative", "additive")
    rows = " |\n| | | ".join(f"{law} | {{}} | {{}} | {{}} | {{}}" for law in laws)
    for target, reach, n_params, n_samples in (
        ("M16, all", "4 x N, 4 x D", size, 800167),
        ("M8, all", "4 x D", min(key[0] for key in scores), 800167),
        ("M16, 200,000", "4 x N", size, 200_000),
    ):
        texts = [scores[n_params, n_samples, "logloss", law] for law in laws]
        yield f"| {target} | {reach} | {rows} |", tuple(text for row in texts for text in row)
    row = "| M16, all (AUC) | 4 x N, 4 x D | tied | {} | {} | {} | {} |"
    yield row, scores[size, 800167, "auc", "tied"]


def _kuairand_order() -> Iterator[Fact]:
    runs = "kuairand-order/runs.csv"
    table = pd.read_csv(STUDIES / runs)
    means = table.groupby(["grade", "data_order", "n_samples"])["logloss"].mean()
    for grade in ("KR-0", "KR-2"):
        where = ("--where", f"grade={grade}")
        words = ("--baseline", "data_order=independent", *where, "--y", "logloss")
        rows, texts = [], []
        for variant in _answer("compare", runs, *words)["variants"]:
            n_samples = variant["n_samples"]
            rows.append(f"{n_samples:,}{' (all)' * (n_samples == 112_503)}" + " | {}" * 4)
            texts += [
                f"{means[grade, order, n_samples]:.4f}" for order in ("independent", "recent")
            ]
            difference, *ends = (
                _signed(variant[f"logloss_{end}"]) for end in ("difference", "low", "high")
            )
            texts += [difference, f"[{', '.join(ends)}]"]
        yield f"| {grade} | " + " |\n| | ".join(rows) + " |", tuple(texts)
    law = ("--law", "saturating", "--x", "n_samples", "--hold", "E=0.57", "--where", "grade=KR-2")
    yield (
        "the data exponent is {} for recent and {} for independent impressions (KR-2)",
        tuple(
            _estimate(_answer("fit", runs, *law, "--where", f"data_order={order}"), "alpha", ".3f")
            for order in ("recent", "independent")
        ),
    )


def _signed(value: float) -> str:
    return f"{value:+.4f}" if round(value, 4) else "0.0000"


def _probability(p: float) -> str:
    return (
        f"{p:.2f}"
        if p >= 0.0095
        else f"{p:.3f}"
        if p >= 0.00095
        else f"{p:.0e}".replace("e-0", "e-")
    )


def _race() -> Iterator[Fact]:
    race = _answer("race", "race/runs.csv")
    names = {"sim": "SIM (soft search)", "rankmixer": "RankMixer (mean of the history)"}
    names |= {"dcnv2": "DCNv2 (no history)"}
    for contest in race["contests"]:
        mean, *ends = (f"{value:+.4f}" for value in contest["mean"])
        cells = (str(contest["n_better"]), str(contest["n_worse"]))
        texts = (mean, f"[{', '.join(ends)}]", _probability(contest["p_value"]), *cells)
        name = names.get(contest["variant"], contest["variant"].upper())
        yield f"| {name} | {{}} | {{}} | {{}} | {{}} | {{}} |", texts
    yield "joint law is identified: alpha {}, beta {}, E {}.", _law(race["laws"]["hstu"])
    movielens = _answer("race", "race/movielens.csv")
    names = {"rankmixer": "RankMixer", "dcnv2": "DCNv2"}
    for contest in movielens["contests"]:
        mean, *ends = (f"{value:+.4f}".replace("0.", ".") for value in contest["mean"])
        name = names.get(contest["variant"], contest["variant"].upper())
        texts = (f"{mean} [{', '.join(ends)}]", _probability(contest["p_value"]))
        law = movielens["laws"][contest["variant"]]
        if law["status"] == "converged":
            yield (
                f"| {name} | {{}} | {{}} | converged: alpha {{}}, beta {{}}, E {{}} |",
                (*texts, *_law(law)),
            )
        else:
            yield f"| {name} | {{}} | {{}} |", texts
    yield "| SUAN | 0 | | converged: alpha {}, beta {}, E {} |", _law(movielens["laws"]["suan"])


def _law(law: Any) -> tuple[str, ...]:
    return tuple(
        _estimate(law, name, shape)
        for name, shape in (("alpha", ".2f"), ("beta", ".2f"), ("E", ".3f"))
    )


def _short(value: float, lower: float, upper: float) -> str:
    """A difference with its sign and its interval, without zeros before the points."""
    return f"{value:+.4f} [{lower:.4f}, {upper:.4f}]".replace("0.", ".")


def _paper() -> Iterator[Fact]:
    def contests(study: str, *reference: str) -> dict[str, tuple[str, str]]:
        words = [word for value in reference for word in ("--reference", value)]
        found = _answer("race", study, *words)["contests"]
        return {
            one["variant"].replace("model.", ""): (
                _short(*one["mean"]),
                f"{one['p_value']:.{2 if one['p_value'] >= 0.02 else 3}f}"[1:],
            )
            for one in found
        }

    race = contests("race/runs.csv")
    means = tuple(race[name][0] for name in ("bst", "sim", "din", "hstu"))
    yield "BST {}, SIM {}, DIN {}, HSTU {} |", means
    yield "ReLU {}, p = {} (4 seeds)", contests("paper/ffn.csv", "model.ffn=swiglu")["ffn=relu"]
    fusion = contests("paper/fusion.csv", "model.fusion=dual")
    yield "| without {} |", fusion["fusion=none"][:1]
    yield "| sum {} |", fusion["fusion=sum"][:1]
    target = contests("paper/target.csv", "model.target_aware=True")
    yield "in the head only: {}, p = {} (4 seeds)", target["target_aware=False"]
    bias = contests("paper/bias.csv", "model.bias=both")
    yield (
        "none {}, p = {}; time alone {}, p = {}; position alone {}, p = {} |",
        (*bias["bias=none"], *bias["bias=time"], *bias["bias=position"]),
    )
    norms = contests("paper/norms.csv", "model.norm=rms", "model.placement=pre")
    yield (
        "after the branch {} (RMS) and {} (Layer); as released {} and {}; LayerNorm before it {} |",
        tuple(
            norms[f"norm={norm}, placement={place}"][0]
            for norm, place in (
                *(("rms", "post"), ("layer", "post"), ("rms", "released")),
                *(("layer", "released"), ("layer", "pre")),
            )
        ),
    )
    light = contests("paper/light.csv", "model.kind=suan")
    wide = tuple(light[f"window=16, dilation={r}"][0] for r in (4, 16))
    narrow = tuple(text for r in (4, 16) for text in light[f"window=4, dilation={r}"])
    yield (
        "k = 16: {} at r = 4, {} at r = 16; k = 4: {} at r = 4 (p = {}), {} at r = 16 (p = {}) |",
        (*wide, *narrow),
    )


PAGES: dict[str, Callable[[], Iterator[Fact]]] = {
    "README.md": _readme,
    "docs/paper.md": _paper,
    "docs/studies/README.md": _gallery,
    "docs/studies/kuairand-order.md": _kuairand_order,
    "docs/studies/movielens-forecast.md": _movielens,
    "docs/studies/race.md": _race,
    "docs/studies/three-orders.md": _three_orders_page,
}


def _kind(value: str) -> str:
    """The pattern of a field: a number, with its interval if the new one has one, or an interval alone."""
    if value.startswith("["):
        return _INTERVAL
    return f"{_NUMBER} {_INTERVAL}" if "[" in value else _NUMBER


def renewed(page: str) -> str:
    """Return the page's text with the numbers of today's results.

    Raises:
        ValueError: the page has none of the templates, or several, in these words.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    for template, values in PAGES[page]():
        parts = template.split("{}")
        words = [r"\s+".join(map(re.escape, re.split(r"\s+", part))) for part in parts]
        fields = [f"({_kind(value)})" for value in values]
        pattern = words[0] + "".join(map(str.__add__, fields, words[1:]))
        found = list(re.finditer(pattern, text))
        if len(found) != 1 or len(values) != len(parts) - 1:
            raise ValueError(f"{page} has {len(found)} times, expected once: {template}")
        for field in reversed(range(len(values))):
            begin, end = found[0].span(field + 1)
            text = text[:begin] + values[field] + text[end:]
    return text


if __name__ == "__main__":
    for name in PAGES:
        (ROOT / name).write_text(renewed(name), encoding="utf-8")
