"""The report in a real Chromium (`make browser-test`): layout, accessibility, sorting, keyboard, print."""

import io
import re
import unicodedata

import numpy as np
import pandas as pd
import pytest

from analysis.report import analyse, analyse_table
from scaling.records import RunStore
from tests.support.browser import missing_programs, open_page
from tests.support.reported_study import make_table, measure, write_curves, write_runs

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        bool(missing_programs()),
        reason=f"not installed: {', '.join(missing_programs())} (python tests/support/browser.py install)",
    ),
    pytest.mark.xdist_group("browser"),
]

WIDTHS = (1400, 800, 390)
A4 = 690  # CSS pixels between the margins
KINDS = ("suan", "din")
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"


def study_report(folder):
    """Everything that a study's runs can have: failures, latencies, training curves, teachers apart."""
    table = make_table()
    write_runs(folder, table.drop(index=[9]))
    measure(folder)
    write_curves(folder)
    known = {(r.config.grade_name, r.config.n_samples, r.config.seed): r.signature for r in RunStore(folder).read_all()}  # fmt: skip
    keys = list(zip(table["grade"], table["n_samples"], table["seed"], strict=True))
    planned = table[["grade", "n_samples", "seed"]].assign(
        signature=[known.get(key, "0" * 16) for key in keys],
        state=["done" if key in known else "failed" for key in keys],
        why=["" if key in known else "loss is not finite at step 7" for key in keys],
    )
    return analyse(folder, title="A <study>", planned=planned, commands=["scaling run study.toml"])


def race_report(folder):
    """Two models of one ladder, with calibration."""
    parts = [
        make_table().assign(**{"model.kind": kind, "calibration": 1.0 + 0.01 * i}) for i, kind in enumerate(KINDS)
    ]  # fmt: skip
    parts[1]["soft_logloss"] += 0.01
    return analyse_table(pd.concat(parts, ignore_index=True), folder, title="race")


def scattered_report(folder):
    """A table of others: one size, long names, numbers of all magnitudes, no law."""
    sizes = np.geomspace(1e3, 1e12, 8)
    table = pd.DataFrame(
        {"tokens_of_a_very_long_column_name": sizes, "loss": 3e5 * sizes**-0.2 + 1e5}
    )
    return analyse_table(
        table, folder, title="t" * 90, metrics=["loss"], x="tokens_of_a_very_long_column_name",
        data="tokens_of_a_very_long_column_name", rising={"loss": False}, law=study_law(),
    )  # fmt: skip


def study_law():
    from analysis.study_results import StudyLaw

    return StudyLaw("saturating")


@pytest.fixture(scope="session")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    made = {
        "study": study_report(folder / "study"),
        "race": race_report(folder / "race"),
        "foreign": scattered_report(folder / "foreign"),
    }
    return {name: result.paths["report"] for name, result in made.items()}


@pytest.fixture(params=["study", "race", "foreign"])
def report(request, reports):
    return reports[request.param]


def test_the_console_stays_silent(report):
    with open_page(report) as page:
        assert page.errors() == []


def test_nothing_is_wider_than_its_place(report):
    with open_page(report) as page:
        found = {}
        page.run(OPEN_ALL)
        for width in WIDTHS:
            page.resize(width)
            found[width] = page.overflowing()
        page.emulate("print")
        page.resize(A4)
        found["print"] = page.overflowing()
    assert found == {key: [] for key in (*WIDTHS, "print")}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(report, scheme):
    with open_page(report) as page:
        page.run(OPEN_ALL)
        page.emulate(scheme=scheme)
        page.resize(1400)
        wide = page.violations()
        page.resize(390)
        assert (wide, page.violations()) == ([], [])


def bare(text):
    """Without spaces; ligatures are letters again."""
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))


def test_print_keeps_every_number(report):
    from pypdf import PdfReader

    with open_page(report) as page:
        cells = page.run(
            "return [...document.querySelectorAll('td, tbody th')].map((c) => c.textContent)"
        )
        pages = PdfReader(io.BytesIO(page.pdf())).pages
        assert {(round(p.mediabox.width), round(p.mediabox.height)) for p in pages} == {(595, 842)}
        printed = bare("".join(p.extract_text() for p in pages))
    lost = [cell for cell in cells if bare(cell) not in printed]
    assert len(cells) > 20
    assert lost == []


# Of the sortable tables, that of all cells.
CELLS = "[...document.querySelectorAll('table.sortable')].find((t) => t.caption.textContent.startsWith('All cells'))"


def column(page, place):
    return page.run(
        f"return [...{CELLS}.tBodies[0].rows].map((r) => r.cells[arguments[0]].dataset.key)", place
    )


def press(page, key):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page.driver).send_keys(key).perform()


def test_a_click_sorts_by_number_and_a_second_one_turns_the_order(reports):
    with open_page(reports["study"]) as page:
        heading = f"{CELLS}.tHead.rows[0].cells[2]"
        page.run(f"{heading}.querySelector('button').click()")
        up = [float(v) for v in column(page, 2)]
        said = page.run(f"return {heading}.getAttribute('aria-sort')")
        page.run(f"{heading}.querySelector('button').click()")
        down = [float(v) for v in column(page, 2)]
    assert said == "ascending"
    assert up == sorted(up) != down
    assert down == up[::-1]


def test_a_table_is_sorted_from_the_keyboard(reports):
    from selenium.webdriver.common.keys import Keys

    with open_page(reports["study"]) as page:
        page.run(f"{CELLS}.querySelectorAll('thead button')[1].focus()")
        press(page, Keys.ENTER)
        press(page, Keys.ENTER)
        values = [float(v) for v in column(page, 1)]
    assert values == sorted(values, reverse=True)


def test_the_filter_shows_the_rows_with_all_words_and_counts_them(reports):
    with open_page(reports["study"]) as page:
        page.run(f"{CELLS}.parentElement.previousElementSibling.querySelector('input').focus()")
        press(page, "suan-2 65,536")
        rows = page.run(
            f"return [...{CELLS}.tBodies[0].rows].filter((r) => !r.hidden).map((r) => r.textContent)"
        )
        said = page.run(
            f"return {CELLS}.parentElement.previousElementSibling.querySelector('output').textContent"
        )
    assert len(rows) == 1
    assert rows[0].strip().startswith("SUAN-2")
    assert said == "1 of 16 rows"


def test_the_first_stop_of_the_keyboard_leads_to_the_contents(report):
    from selenium.webdriver.common.keys import Keys

    with open_page(report) as page:
        press(page, Keys.TAB)
        assert page.run("return document.activeElement.className") == "skip"
        press(page, Keys.ENTER)
        assert page.run("return document.activeElement.id") == "content"


def test_without_scripts_every_number_is_there(report):
    count = "return [document.querySelectorAll('td').length, document.querySelectorAll('.filter').length]"
    with open_page(report) as page:
        cells, _ = page.run(count)
    text = report.read_text()
    without = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert len(re.findall(r"<td\b", without)) == cells
    assert 'class="filter"' not in without


def test_a_link_of_the_contents_opens_its_variant_alone(reports):
    with open_page(reports["race"]) as page:
        page.run("[...document.querySelectorAll('nav a')].find((a) => a.textContent.endsWith('din')).click()")  # fmt: skip
        opened = "return [...document.querySelectorAll('details[open] strong')].map((s) => s.textContent)"
        assert page.run(opened) == ["model.kind=din"]


def test_the_answer_is_on_the_first_screen(reports):
    with open_page(reports["study"]) as page:
        page.resize(1400, 1000)
        low = page.run("return document.querySelector('.answers').getBoundingClientRect().bottom")
    assert low < 1000
