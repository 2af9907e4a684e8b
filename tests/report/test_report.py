"""The analysis of a study: files, text and the self-contained report."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from slow_cases import fast_only

from analysis.fit import LawFit
from analysis.report import analyse, analyse_table
from analysis.report.page import Figure, Page, Paragraph, Section, Table, render_html
from analysis.report.sections.overview import _sizes_text, absent_text
from analysis.report.sections.served_models import teachers_section
from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.cli.app import main
from scaling.errors import UserError
from scaling.records import RunStore, TeacherRecord
from scaling.study import Distillation
from tests.support.reported_study import PARAMS, make_table, measure, write_runs

# Names that a drawing declares; nothing is loaded from there.
NAMESPACES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "study"
    table = make_table()
    write_runs(folder, table.drop(index=[9]))
    planned = table[["grade", "n_samples", "seed"]].assign(signature="?", state="done")
    store = RunStore(folder)
    done = {(r.config.grade_name, r.config.n_samples, r.config.seed): r.signature
            for r in store.read_all()}  # fmt: skip
    for i, row in planned.iterrows():
        key = (row["grade"], row["n_samples"], row["seed"])
        planned.loc[i, "signature"] = done.get(key, "0" * 16)
    planned.loc[9, "state"] = "failed"
    return analyse(folder, title="A <study>", planned=planned)


def html(section: Section) -> str:
    return render_html(Page("t", "lead", [section]))


class Parsed(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_loads_nothing_from_anywhere(analysed):
    text = analysed.paths["report"].read_text()
    page = Parsed(text)
    assert page.open == []
    assert page.links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert not re.findall(r"url\((?!#)", text)
    assert set(re.findall(r"https?://[^\"\s]*", text)) <= NAMESPACES


def test_the_report_opens_with_what_more_buys(analysed):
    text = analysed.paths["report"].read_text()
    assert re.findall("<h2[^>]*>(.*?) <a", text)[0] == "What this study says"
    asked = re.findall('<p class="asked">(.*?)</p>', text)
    assert asked[:3] == ["10 × parameters", "10 × samples", "10 × FLOPs, split best"]
    assert asked[-3:] == ["Exponents", "Tested on held-out cells", "Run next"]


def test_every_text_of_the_page_is_escaped():
    text = "<b> & \"c'"
    blocks = [Paragraph(text), Table([text], [[text]]), Figure("<svg></svg>", text, text)]
    page = render_html(Page(text, text, [Section(text, blocks)]))
    assert "<b>" not in page
    assert page.count("&lt;b&gt; &amp; &#34;c&#39;") == 13


def test_a_section_without_content_is_not_rendered():
    assert "Empty" not in html(Section("Outer", [Section("Empty", [Table(["a"], [])], 3)]))


def test_only_columns_of_numbers_are_aligned_right_and_only_long_texts_wrap():
    rows = [[1, "–", "SUAN-0", "a" * 41], [2.5, "+1 %", "4 seeds, or more", "b"]]
    assert Table(["a", "b", "c", "d"], rows).css_classes == ["", "", "text", "text prose"]


def test_the_report_says_what_was_run_fitted_and_missed(analysed):
    text = analysed.paths["report"].read_text()
    for wanted in (
        "A &lt;study&gt;", "31 runs in 16 cells", "SUAN-3", "soft_logloss = E + A N^-alpha",
        "soft_auc = E - A N^-alpha", "E held at the truth", "Held-out extrapolation",
        "the additive law (g = 1) is", "The largest held-out cell of each cut",
        "1 of 32 planned runs", "1 failed: SUAN-2 D=4.1k s1", "Checklist", "profile likelihood",
        "0123456789ab", "torch 2.13.0", "scaling run &lt;x&gt;", "decades",
    ):  # fmt: skip
        assert wanted in text, wanted


def test_each_metric_gets_its_figures_and_fits(analysed):
    figures = {p.stem for p in analysed.paths["figures"].glob("*.png")}
    kinds = ("data", "size", "flops", "excess", "residuals", "holdout", "frontier")
    assert figures == {f"{m}-{k}" for m in ("soft_logloss", "soft_auc") for k in kinds}
    fits = {p.stem for p in analysed.paths["fits"].glob("*.json")}
    assert fits == set(analysed.fits)
    assert {"soft_logloss-joint", "soft_auc-n_samples-SUAN-0", "soft_auc-n_params-D4096"} <= fits
    document = json.loads((analysed.paths["fits"] / "soft_logloss-joint.json").read_text())
    again = LawFit.from_document(document)
    assert again.params == analysed.fits["soft_logloss-joint"].params


def test_figures_are_not_blank(analysed):
    from matplotlib.image import imread

    for path in analysed.paths["figures"].glob("*.png"):
        image = imread(path)
        assert image.shape[0] > 400
        assert (image[..., :3].min(axis=2) < 0.9).mean() > 0.01


def test_the_text_lists_cells_exponents_and_paths(analysed):
    lines = analysed.text.splitlines()
    assert lines[0] == "soft_logloss: 31 runs in 16 cells, means over seeds"
    assert lines[1].split() == ["grade", "N", "D=4.1k", "D=16.4k", "D=65.5k", "D=262k"]
    assert any(re.fullmatch(r"  alpha  0\.\d+ \[0\.\d+, 0\.\d+\]", line) for line in lines)
    assert any("true 0.4000, inside the interval" in line for line in lines)
    assert lines[-1] == f"report   {analysed.paths['report']}"


def test_the_planted_law_is_found(analysed):
    fit = analysed.fits["soft_logloss-joint"]
    for name in ("E", "alpha", "beta"):
        assert PARAMS[name] in fit.intervals[name]


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr("analysis.report.study_report.draw_figures", lambda study: {})


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_runs_outside_the_plan_are_left_out(tmp_path):
    write_runs(tmp_path / "s", make_table(seeds=1))
    signatures = [r.signature for r in RunStore(tmp_path / "s").read_all()]
    table = make_table(seeds=1)[["grade", "n_samples", "seed"]]
    planned = table.assign(signature=signatures, state="done")
    result = analyse(tmp_path / "s", title="t", planned=planned[:12])
    assert result.fits["soft_logloss-joint"].n_points == 12
    assert "4 finished runs in the folder are not of this plan" in (
        result.paths["report"].read_text()
    )
    with pytest.raises(UserError, match="none of the planned runs"):
        analyse(tmp_path / "s", title="t", planned=planned.assign(signature="none"))


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_variants_are_fitted_separately(tmp_path):
    table = make_table()
    both = pd.concat(
        [table.assign(data_order="independent"), table.assign(data_order="shared")],
        ignore_index=True,
    )
    result = analyse_table(both, tmp_path, title="t", metrics=["soft_logloss"])
    assert {n for n in result.fits if n.endswith("-joint")} == {
        "data_order_independent-soft_logloss-joint", "data_order_shared-soft_logloss-joint"
    }  # fmt: skip
    assert "Grades shared one order" in result.paths["report"].read_text()


def test_more_data_sizes_than_can_be_read_are_counted():
    assert _sizes_text(pd.Series([100, 1_000])) == "data sizes 100, 1,000"
    assert (
        _sizes_text(pd.Series(range(1_000, 14_000, 1_000))) == "13 data sizes from 1,000 to 13,000"
    )


@pytest.mark.parametrize("keep", fast_only([4], [1, 4, 8]))
def test_a_partial_study_gets_a_report_that_says_what_is_missing(tmp_path, keep):
    result = analyse_table(make_table(seeds=1)[:keep], tmp_path, title="t")
    assert not result.success
    assert "too_few_points" in result.text
    Parsed(result.paths["report"].read_text())


def test_a_table_without_metrics_is_refused(tmp_path):
    with pytest.raises(UserError, match="neither a column logloss nor auc"):
        analyse_table(make_table()[["grade", "n_params", "n_samples"]], tmp_path, title="t")


def test_many_missing_runs_are_listed_in_short():
    planned = pd.DataFrame({"grade": "S", "n_samples": 4096, "seed": range(20), "state": "missing"})
    text = absent_text(planned)
    assert text.startswith("Not in the fits: 20 of 20 planned runs (20 missing: S D=4.1k s0,")
    assert "and 8 more" in text


def write_distilled(folder):
    """SUAN-0 alone, and after frozen teachers of two grades that saw four times its data."""
    table = make_table(seeds=2).query("grade == 'SUAN-0'")
    parts = [table.assign(distill=None, teacher=None)]
    for grade, n_params in (("SUAN-2", 9_000), ("SUAN-3", 30_000)):
        distill = Distillation(grade, GRADES[grade], SuanOptions(), None, 1.0, 1.0, False, "f" * 16)
        teachers = [
            TeacherRecord(n_params, 10, 20 * n_params, {"soft_auc": 0.75}, 4 * n, 3 * n)
            for n in table["n_samples"]
        ]
        parts.append(table.assign(distill=distill, teacher=teachers))
    write_runs(folder, pd.concat(parts, ignore_index=True).astype({"distill": object}))
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_the_report_of_distilled_runs_lists_the_teachers_and_their_data(tmp_path):
    folder = write_distilled(tmp_path / "s")
    text = analyse(folder, title="t").paths["report"].read_text()
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", text[text.index('<h2 id="teachers"') :])
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]
    expected = ["SUAN-0", "4,096", "SUAN-3", "frozen", "16,384", "12,288", "2"]
    assert [row[:7] for row in cells].count(expected) == 1


@pytest.mark.usefixtures("no_figures")
def test_students_with_different_weights_have_separate_rows():
    table = pd.DataFrame(
        {
            "grade": "S", "n_params": 10, "n_samples": 100, "distill": "cold",
            "distill_weight": [1.0, 4.0], "teacher_grade": "T", "teacher_n_params": 20,
            "teacher_n_samples": 0, "teacher_n_new_samples": 0, "teacher_auc": 0.8,
            "auc": [0.6, 0.7],
        }
    )  # fmt: skip
    page = html(teachers_section(table, ["auc"]))
    assert "distill_weight" in page
    assert "0.60000" in page
    assert "0.70000" in page


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("seeds", "text"),
    [(1, " 1 seed per cell."), pytest.param(2, " 2 seeds per cell.", marks=pytest.mark.slow)],
)
def test_seeds_are_counted_in_words(tmp_path, seeds, text):
    result = analyse_table(make_table(seeds), tmp_path, title="x", metrics=["soft_auc"])
    assert text in result.paths["report"].read_text()


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("value", [0.1, "word", np.nan])
def test_a_foreign_column_distill_is_no_teacher(tmp_path, value):
    table = make_table(seeds=1)[:8].assign(distill=value)
    result = analyse_table(table, tmp_path, title="x", metrics=["soft_auc"])
    assert ">Teachers<" not in result.paths["report"].read_text()


def test_students_with_an_unknown_teacher_are_skipped():
    rows = [
        {"grade": "A", "n_params": 1, "n_samples": 4096, "seed": s, "auc": 0.6,
         "distill": way, "teacher_grade": "B", "teacher_n_params": 9,
         "teacher_n_samples": before, "teacher_n_new_samples": before}
        for s, (way, before) in enumerate([("frozen", 4096.0), ("warm", np.nan), (np.nan, 4096.0)])
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    text = html(teachers_section(table, ["auc"]))
    assert "frozen</td>" in text
    assert "warm</td>" not in text
    assert "nan" not in text
    assert teachers_section(table[1:], ["auc"]).is_empty
    assert teachers_section(table.drop(columns="teacher_n_new_samples"), ["auc"]).is_empty


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_the_report_of_measured_runs_shows_accuracy_against_latency(tmp_path):
    write_runs(tmp_path / "s", make_table(seeds=1)[:8])
    measure(tmp_path / "s")
    result = analyse(tmp_path / "s", title="t")
    text = result.paths["report"].read_text()
    assert "What can be served" in text
    assert "The best model under 10 ms is SUAN-2" in text
    assert "Served in 10 ms at p99" in text
    assert (result.paths["figures"] / "soft_auc-latency.png").exists()
    Parsed(text)


def test_plain_runs_that_nobody_measured_have_neither_section(analysed):
    text = analysed.paths["report"].read_text()
    assert "Teachers" not in text
    assert "What can be served" not in text


@pytest.mark.usefixtures("no_figures")
def test_latencies_that_cannot_be_compared_do_not_stop_the_report(tmp_path):
    write_runs(tmp_path / "s", make_table(seeds=1)[:8])
    measure(tmp_path / "s", n_threads=(4, 1))
    text = analyse(tmp_path / "s", title="t").paths["report"].read_text()
    assert "No figure of latency: " in text
    assert "What can be served" not in text


@pytest.mark.slow
def test_a_variant_with_a_long_name_gets_files_of_its_own(tmp_path):
    table = make_table(seeds=1)[:4]
    options = {f"model.option_{i}_of_many": ["a" * 100, "b" * 100] for i in range(3)}
    crossed = pd.concat(
        [
            table.assign(**{name: values[i == chosen] for i, (name, values) in enumerate(options.items())})
            for chosen in range(3)
        ]
    )  # fmt: skip
    result = analyse_table(crossed, tmp_path, title="t", metrics=["soft_auc"])
    joint = [path for path in result.paths["fits"].iterdir() if path.stem.endswith("-joint")]
    assert len(joint) == 3
    assert len({path.name for path in result.paths["figures"].glob("*-data.png")}) == 3


@pytest.mark.usefixtures("no_figures")
def test_what_fails_before_the_first_file_leaves_none(tmp_path, monkeypatch):
    def fail(*_):
        raise UserError("no page")

    monkeypatch.setattr("analysis.report.study_report.render_html", fail)
    with pytest.raises(UserError, match="no page"):
        analyse_table(make_table(seeds=1)[:8], tmp_path / "out", title="t")
    assert not (tmp_path / "out").exists()


def report_of(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["report", *map(str, arguments)])
    return end.value.code


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_the_sizes_asked_for_are_those_of_a_studys_laws(tmp_path, capsys):
    folder = write_distilled(tmp_path / "s")
    assert report_of(folder, "--x", "teacher_n_params") == 0
    page = (folder / "report.html").read_text()
    assert "N is the column teacher_n_params" in page
    assert "8 of 24 runs have no teacher" in page
    assert "soft_logloss: 4 runs in 2 cells" in capsys.readouterr().out
    assert report_of(folder, "--x", "teacher_n_param") == 2
    assert "did you mean teacher_n_params?" in capsys.readouterr().err


@pytest.mark.usefixtures("no_figures")
def test_a_part_of_a_study_keeps_its_provenance_and_says_which_part(tmp_path):
    folder = write_distilled(tmp_path / "s")
    assert report_of(folder, "--where", "distill=none") == 0
    page = (folder / "report.html").read_text()
    assert "Only runs with distill=none." in page
    assert "torch 2.13.0" in page


def run_of(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    return end.value.code, *capsys.readouterr()


def test_the_table_shows_teachers_and_differing_columns(tmp_path, capsys):
    folder = write_distilled(tmp_path / "s")
    _, out, _ = run_of(capsys, "table", folder)
    shown = out.splitlines()[0].split()
    assert [c for c in shown if c.startswith(("distill", "teacher"))] == [
        "distill", "teacher_grade", "teacher_data"
    ]  # fmt: skip
    assert "16384" in out


def test_many_variants_are_reported_in_one_short_line_with_a_choice(tmp_path, capsys):
    folder = write_distilled(tmp_path / "s")
    code, _, err = run_of(capsys, "fit", folder)
    assert (code, err.count("\n")) == (2, 1)
    assert "distill (2: frozen, none), teacher_grade (3: SUAN-2, SUAN-3, none)" in err
    choice = err.split("e.g. ")[1].split()
    assert run_of(capsys, "fit", folder, *choice)[0] == 1  # one variant, of too few sizes
    assert len(err) < 500


def test_the_frontier_of_what_nobody_measured_names_the_verb_that_measures(tmp_path, capsys):
    folder = write_distilled(tmp_path / "s")
    code, _, err = run_of(capsys, "plot", folder, "--kind", "frontier")
    assert (code, err.count("\n")) == (2, 1)
    assert f"not measured yet: `scaling serve-bench {folder}` first" in err


def test_the_frontier_of_latency_needs_no_law(tmp_path, capsys):
    folder = write_distilled(tmp_path / "s")
    measure(folder)
    code, out, err = run_of(capsys, "plot", folder, "--kind", "frontier", "--y", "soft_auc")
    assert (code, out.split()) == (0, [str(folder / "figures" / "soft_auc-latency.png")])
    assert err.splitlines()[-1].startswith(
        "no frontier of training cost: the runs differ in more than sizes: distill"
    )


@pytest.mark.parametrize("option", ["--x", "--data"])
def test_the_frontier_of_latency_takes_no_size_that_is_not_there(tmp_path, capsys, option):
    folder = write_distilled(tmp_path / "s")
    measure(folder)
    code, out, err = run_of(capsys, "plot", folder, "--kind", "frontier", option, "foo")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no column foo" in err


@pytest.mark.parametrize("budget", ["0", "-1", "nan", "inf"])
def test_a_budget_of_no_time_is_refused(tmp_path, capsys, budget):
    folder = write_distilled(tmp_path / "s")
    code, _, err = run_of(capsys, "plot", folder, "--budget-ms", budget)
    assert (code, err.count("\n")) == (2, 1)
    assert "--budget-ms" in err
