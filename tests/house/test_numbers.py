"""Numbers of the pages are those of the results that are kept in docs/studies/."""

import importlib.util
import json
from pathlib import Path

import pytest

from analysis.fit import fit_law
from analysis.laws import build_law
from analysis.table import read_table

ROOT = Path(__file__).parents[2]
SLOW = ("docs/paper.md", "docs/studies/race.md")


def load_make_numbers():
    spec = importlib.util.spec_from_file_location("make_numbers", ROOT / "docs" / "make_numbers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_numbers = load_make_numbers()


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else [])
        for page in make_numbers.PAGES
    ],
)
def test_the_numbers_of_a_page_are_those_of_its_results(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == make_numbers.renewed(page), "run `make docs`"


def test_the_kept_fit_of_three_orders_is_that_of_its_runs():
    """So that the kept report and figures say what the page says."""
    folder = ROOT / "docs/studies/three-orders"
    kept = json.loads((folder / "runs-analysis/fits/soft_logloss-joint.json").read_text())
    fit = fit_law(build_law("additive"), read_table(folder / "runs.csv"), y="soft_logloss")
    assert kept["params"] == pytest.approx(fit.params, rel=1e-6)


def test_a_sentence_that_is_gone_is_named(monkeypatch):
    monkeypatch.setitem(make_numbers.PAGES, "README.md", lambda: [("no such {} words", ("1",))])
    with pytest.raises(ValueError, match="no such"):
        make_numbers.renewed("README.md")
