"""The page of several variants: short at first, with all of each variant one click away."""

import re

import numpy as np
import pandas as pd
import pytest

from analysis.report import analyse_table
from tests.support.reported_study import make_table

KINDS = ("suan", "din")


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    parts = [make_table().assign(**{"model.kind": kind}) for kind in KINDS]
    noise = np.random.default_rng(1).normal(0, 1e-3, len(parts[1]))
    parts[1]["soft_logloss"] += 0.02 + noise
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.report.study_report.draw_figures", lambda study: {})
        folder = tmp_path_factory.mktemp("race")
        table = pd.concat(parts, ignore_index=True)
        return analyse_table(table, folder, title="race", metrics=["soft_logloss"])


@pytest.fixture(scope="module")
def page(raced):
    return raced.paths["report"].read_text()


def closed(page):
    return re.findall(r"<details>(.*?)</details>", page, re.DOTALL)


def open_part(page):
    return re.sub(r"<details>.*?</details>", "", page, flags=re.DOTALL)


@pytest.mark.slow
def test_what_is_of_one_variant_alone_is_closed(page):
    titles = re.findall(r"<h[23] id=\"([^\"]+)\"", open_part(page))
    assert titles[:4] == ["what-this-study-says", "race-of-the-models", "what-ten-times-as-much-buys", "what-was-run"]  # fmt: skip
    own = [part for part in closed(page) if 'id="joint-law' in part]
    assert len(own) == len(KINDS)
    assert all("Held-out extrapolation" in part for part in own)


def test_a_closed_variant_says_its_name_its_status_and_the_gain_from_data(page):
    summaries = re.findall(r"<summary>(.*?)</summary>", page)
    own = [text for text in summaries if text.startswith("<strong>model.kind=din</strong>")]
    assert len(own) == 1
    assert re.search(r": the data determine the law; 10 × samples improve soft_logloss by 0\.\d+ \[", own[0])  # fmt: skip


def test_the_contents_lead_into_each_closed_variant(page):
    for kind in KINDS:
        (target,) = re.findall(rf'<li><a href="#([^"]+)">model.kind={kind}</a>', page)
        (part,) = [part for part in closed(page) if f'id="{target}"' in part]
        assert f"<strong>model.kind={kind}</strong>" in part


def test_verdict_pairs_and_figure_are_open_and_the_gains_of_all_are_closed(page):
    shown = open_part(page)
    assert "At equal grade and data, model.kind=suan is better than model.kind=din." in shown
    assert "Pairs of runs of one grade" in shown
    assert shown.count("<figure>") == 1
    assert "What ten times as much buys, by the fitted law" not in shown
    assert page.index("<figure>") < page.index("What ten times as much buys, by the fitted law")


def test_the_shared_part_of_the_names_is_in_no_row(page):
    rows = re.findall(r'<th scope="row"[^>]*>([^<]*)</th>', page)
    assert {"suan", "din"} <= set(rows)
    assert not [text for text in rows if "model.kind" in text]


def test_a_command_in_a_sentence_is_code(page):
    without_drawings = re.sub(r"<(svg|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert "<code>scaling race</code>" in without_drawings
    assert "`" not in without_drawings


def test_the_terminal_has_the_verdict_on_a_line(raced):
    lines = [line for line in raced.text.splitlines() if line.startswith("At equal grade and data")]
    assert len(lines) == 1
    assert "model.kind=suan is better than model.kind=din." in lines[0]
    assert lines[0] in raced.paths["report"].read_text()


def test_the_markdown_of_a_race_has_all_variants_open(raced):
    text = raced.paths["markdown"].read_text()
    assert "<details" not in text
    assert text.count("### Joint law") == len(KINDS)
