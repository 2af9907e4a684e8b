"""A page's markup, Markdown, numbers and colours, without a browser (that is test_page_in_browser.py)."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure as Drawing

from analysis.plots.rendering import picture_of
from analysis.plots.style import MODEL_COLOURS, colour_of
from analysis.report.page import (
    Answer,
    Answers,
    Commands,
    Definitions,
    Figure,
    Page,
    Paragraph,
    Section,
    Table,
    Value,
    number,
    percent,
    readable,
    render_html,
    render_markdown,
)
from analysis.report.page.svg_theme import DARK, LIGHT, contrast, dark_colour
from analysis.uncertainty import format_change


def drawn(title="loss 0.40791 at 1.9M", finding="Larger is better", caption="How to read it."):
    figure = Drawing()
    ax = figure.subplots()
    ax.plot([0.123456, 1.987654], [2.345678, 3.456789], color="#0072b2", label=title)
    ax.legend()
    return picture_of(figure, finding, caption)


def page_of(*blocks):
    return Page("Title", "Lead.", [Section("Part", list(blocks))])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (11_210.0, "11,210"), (3_224.123, "3,224"), (32_239.9, "32,240"), (0.8238, "0.8238"), (-0.00001, "-1.000 × 10⁻⁵"),
        (1.5e15, "1.500 × 10¹⁵"), (0.0012345, "0.001234"), (0.00012345, "0.0001234"), (0.0, "0"), (-0.0, "0"), (float("nan"), "–"), (12.345, "12.35"),
    ],
)  # fmt: skip
def test_numbers_are_written_for_people(value, text):
    assert number(value) == text


@given(st.floats(-1e300, 1e300))
def test_a_number_is_off_by_at_most_its_last_digit(value):
    plain = number(value).replace(",", "").replace("−", "-")
    mantissa, _, power = plain.partition(" × 10")
    digits = power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    shown = float(mantissa) * 10.0 ** int(digits or 0)
    assert shown == pytest.approx(value, rel=6e-4)


@given(st.floats(-10, 10), st.floats(1e-6, 10))
def test_no_number_is_a_negative_zero(value, half):
    texts = re.findall(r"-?[\d.]+", format_change(value, value - half, value + half))
    assert len(texts) == 3
    assert not any(text.startswith("-") and float(text) == 0 for text in texts)
    assert percent(-0.000001, sign=True) == "0.00%"


def test_an_estimate_has_two_digits_of_its_half_width():
    assert format_change(0.00782, 0.00294, 0.01269) == "0.0078 [0.0029, 0.0127]"
    assert format_change(0.00782, math.nan, math.nan) == "0.00782"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.0011, -0.0000231, 0.00225), "0.00110 [-0.00002, 0.00225]"),
        ((0.0078, 0.00001, 0.0155), "0.00780 [0.00001, 0.01550]"),
        ((128787015403, 108206997618, 149367033188), "1.29e+11 [1.08e+11, 1.49e+11]"),
        ((1.1e-12, 9e-13, 1.3e-12), "1.10e-12 [9.0e-13, 1.30e-12]"),
        ((12_345.0, 11_000.0, 13_690.0), "12300 [11000, 13700]"),
    ],
)
def test_an_end_shows_its_sign_and_its_magnitude(values, text):
    assert format_change(*values) == text


def test_powers_of_ten_are_written_out():
    assert readable("66.9 [0.901, 1.49e+15] at 7.69e+03") == "66.9 [0.901, 1.49 × 10¹⁵] at 7,690"
    assert readable("SUAN-1e+5x") == "SUAN-1e+5x"


def test_a_drawing_keeps_its_numbers_as_text():
    svg = drawn().svg
    assert "loss 0.40791 at 1.9M</text>" in svg
    assert "Larger is better</text>" in svg


def test_equal_figures_have_equal_bytes():
    assert drawn().svg == drawn().svg


def test_two_drawings_share_no_id():
    blocks = [Figure(one.svg, one.finding, one.caption) for one in (drawn(), drawn())]
    ids = re.findall(r'\bid="([^"]+)"', render_html(page_of(*blocks)))
    assert len(ids) == len(set(ids)) > 20


def test_every_colour_of_a_drawing_has_a_dark_one():
    one = drawn()
    text = render_html(page_of(Figure(one.svg, one.finding, one.caption)))
    used = set(re.findall(r"var\(--(k[0-9a-f]{6})\)", text))
    light, dark = (set(re.findall(r"--(k[0-9a-f]{6}):", part)) for part in text.split("@media", 1)[:2])  # fmt: skip
    assert "k0072b2" in used
    assert used <= light
    assert light <= dark


@pytest.mark.parametrize(
    "colour",
    [*MODEL_COLOURS, "#666666", "#000000"]
    + ["#" + "".join(f"{round(255 * c):02x}" for c in colour_of(i, 8)[:3]) for i in range(8)],
)  # fmt: skip
def test_what_is_legible_on_white_is_legible_on_the_dark_page(colour):
    assert contrast(colour, LIGHT) >= 3
    assert contrast(dark_colour(colour), DARK) >= 3


def test_the_background_becomes_that_of_the_dark_page():
    assert dark_colour("#ffffff") == DARK


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # WCAG's own example


def test_the_contents_list_every_section_by_its_anchor():
    sections = [Section("One & two", [Paragraph("x")]), Section("One & two", [Paragraph("y")])]
    text = render_html(Page("t", "l", [*sections, Section("Empty", [])]))
    assert re.findall(r'<li><a href="#([^"]+)">', text) == ["one-two", "one-two-2"]
    assert re.findall(r'<h2 id="([^"]+)"', text) == ["one-two", "one-two-2"]


def test_headers_have_a_scope_and_entries_the_name_of_their_column():
    text = render_html(page_of(Table(["model", "loss"], [["W2", 0.5]], "Losses.")))
    assert '<th scope="col" role="columnheader">loss</th>' in text
    assert '<th scope="row" role="rowheader" class="text" data-name="model">W2</th>' in text
    assert 'data-name="loss">0.5000</td>' in text
    assert "<caption>Losses.</caption>" in text


def test_a_page_without_a_sortable_table_has_no_script():
    assert "<script" not in render_html(page_of(Table(["a"], [["b"]])))
    assert "<script" in render_html(page_of(Table(["a"], [["b"]], sortable=True)))


def test_values_are_sorted_by_their_number():
    table = Table(["flops"], [[Value(1.68e9, "1.68e+09")]], sortable=True)
    assert table.keys == [["1680000000.0"]]
    assert table.texts == [["1.68 × 10⁹"]]


def test_a_figure_says_what_it_shows_to_those_who_cannot_see_it():
    one = drawn(finding='A "better" <model>', caption="Points.")
    text = render_html(page_of(Figure(one.svg, one.finding, one.caption)))
    assert 'role="img" aria-label="A &#34;better&#34; &lt;model&gt;. Points."' in text


def test_only_the_code_of_a_sentence_is_markup():
    text = render_html(page_of(Paragraph("run `a <b>` or `c")))
    assert "<p>run <code>a &lt;b&gt;</code> or `c</p>" in text


def test_the_page_as_markdown():
    page = page_of(
        Answers([Answer("10 × samples", "0.01 better", ("from N = 1k",))]),
        Paragraph("a*b | <c>"),
        Table(["model", "loss"], [["W|2", 1_000]], "Losses."),
        Definitions([("Form", "E + A")]),
        Commands(["scaling run study.toml"]),
        Figure("<svg/>", "It falls", "Read it.", "loss-data"),
    )
    assert render_markdown(page) == (
        "# Title\n\nLead.\n\n## Part\n\n- **10 × samples**: 0.01 better (from N = 1k)\n\na\\*b \\| \\<c\\>\n\nLosses.\n\n"
        "| model | loss |\n| --- | ---: |\n| W\\|2 | 1,000 |\n\n- **Form**: E + A\n\n```\nscaling run study.toml\n```\n\n"
        "![It falls](figures/loss-data.png)\n\nIt falls. Read it.\n"
    )
