"""A study's own rate law: what it gives, what is refused, and how it is written into a study file."""

import tomllib
from pathlib import Path

import pytest
from small_studies import study_and_facts

from scaling.errors import UserError
from scaling.study import RateLaw, load_study, with_rate_law
from sweeps.planning import grid_cells

LAW = RateLaw(48, 65_536, -0.5, 0.25, factor=1.5)
OLD = RateLaw(48, 65_536, -0.5, 0.25, learning_rate=0.004)
DOCUMENT = {name: value for name, value in vars(LAW).items() if value is not None}
AS_OVERRIDE = (
    "train.rate_law={learning_rate=0.004,token_width=48,n_samples=65536,"
    "width_exponent=-0.5,samples_exponent=0.25}"
)


def test_the_law_is_the_recipes_rate_times_a_power_of_width_and_data_size():
    assert LAW.rate(48, 65_536, 0.002) == pytest.approx(0.003)
    assert LAW.rate(12, 65_536, 0.002) == pytest.approx(0.006)
    assert LAW.rate(48, 4_096, 0.002) == pytest.approx(0.0015)


def test_a_law_of_an_earlier_version_does_not_depend_on_the_recipe():
    assert OLD.rate(48, 65_536, 0.1) == 0.004
    assert OLD.rate(12, 65_536, 0.2) == pytest.approx(0.008)
    assert OLD.rate(48, 4_096, 0.3) == pytest.approx(0.002)


def test_a_factor_of_one_and_no_exponents_are_the_recipe_itself(study_file):
    law = "train.rate_law={factor=1.0,token_width=6,n_samples=160,width_exponent=0.0,samples_exponent=0.0}"
    plain, facts = study_and_facts(study_file)
    own, _ = study_and_facts(study_file, law)
    assert [c.signature for c in grid_cells(own, facts)] == [
        c.signature for c in grid_cells(plain, facts)
    ]


def test_cells_have_the_rates_of_the_law_and_all_else_of_the_recipe(study_file):
    plain, facts = study_and_facts(study_file)
    own, _ = study_and_facts(study_file, AS_OVERRIDE)
    for before, after in zip(grid_cells(plain, facts), grid_cells(own, facts), strict=True):
        width = after.grade.d * len(facts.schema.behaviour)
        assert after.learning_rate == OLD.rate(width, after.n_samples, 1.0) != before.learning_rate
        assert (after.batch_size, after.embedding_rate) == (
            before.batch_size,
            before.embedding_rate,
        )


def test_signatures_depend_on_the_rates_alone(study_file):
    """The same rates, once from the recipe and once as a number in the file."""
    one_size = ("grid.n_samples=[320]", 'grid.grade=["SUAN-1"]')
    law, facts = study_and_facts(study_file, AS_OVERRIDE, *one_size)
    (cell,) = grid_cells(law, facts)
    number, _ = study_and_facts(
        study_file, f"train.learning_rate={cell.learning_rate!r}", *one_size
    )
    assert grid_cells(number, facts)[0].signature == cell.signature


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("n_samples", "n_sample"),
            "train.rate_law.n_sample: unknown key, did you mean n_samples?",
        ),
        (("token_width=48,", ""), "train.rate_law.token_width: missing"),
        (("=0.004", "=-1.0"), "learning_rate is -1.0, expected a positive number"),
        (("=-0.5", "=nan"), "width_exponent"),
        (("learning_rate=0.004,", ""), "expected either factor"),
        (("learning_rate=0.004", "learning_rate=0.004,factor=1.0"), "expected either factor"),
        (("=0.25", "=40.0"), "samples_exponent is 40.0, expected a number between -3 and 3"),
    ],
)
def test_a_bad_law_is_refused(study_file, change, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        load_study(study_file, (AS_OVERRIDE.replace(*change, 1),))


@pytest.mark.parametrize("more", ["train.learning_rate=0.01", "grid.train={learning_rate=[0.01]}"])
def test_a_rate_set_twice_is_refused(study_file, more):
    with pytest.raises(UserError, match="learning_rate and rate_law both set the rate"):
        load_study(study_file, (AS_OVERRIDE, more))


def test_a_law_is_no_axis(study_file):
    with pytest.raises(UserError, match=r"train\.rate_law: is not an axis; set it in \[train\]"):
        load_study(study_file, ("grid.train={rate_law=[{learning_rate=0.1}]}",))


BEFORE = """\
# My study.
[study]
name = "mine"   # of mine

[train]  # how
packing = "request"

# the grid
[grid]
grade = [
    "SUAN-0",  # small
]
n_samples = [160]
"""


def test_a_new_law_comes_at_the_end_and_leaves_all_else_as_it_is():
    after = with_rate_law(BEFORE, LAW)
    assert after == BEFORE + (
        "\n[train.rate_law]  # fitted by `scaling tune`\n"
        "# peak rate = factor x the recipe's x (width / token_width)^width_exponent (D / n_samples)^samples_exponent\n"
        "factor = 1.5\ntoken_width = 48\nn_samples = 65536\n"
        "width_exponent = -0.5\nsamples_exponent = 0.25\n"
    )


def test_a_law_that_is_there_gets_new_values_in_its_place():
    there = BEFORE.replace(
        "# the grid",
        "[train.rate_law]\nfactor = 0.1  # mine\ntoken_width = 1\nn_samples = 1\n"
        "width_exponent = 0.0  # flat\nsamples_exponent = 0.0\n\n# the grid",
    )
    expected = there.replace("= 0.1  # mine", "= 1.5  # mine").replace(
        "token_width = 1", "token_width = 48"
    )
    expected = expected.replace("n_samples = 1\n", "n_samples = 65536\n")
    expected = expected.replace("width_exponent = 0.0", "width_exponent = -0.5")
    expected = expected.replace("samples_exponent = 0.0", "samples_exponent = 0.25")
    assert with_rate_law(there, LAW) == expected
    assert with_rate_law(expected, LAW) == expected


def test_a_law_of_an_earlier_version_is_replaced_with_its_comment():
    formula = "learning_rate (D / token_width)^width_exponent (n / n_samples)^samples_exponent"
    there = BEFORE.replace(
        "# the grid",
        f"[train.rate_law]  # fitted by `scaling tune`\n# peak rate = {formula}\nlearning_rate = 0.1  # mine\n"
        "token_width = 1\nn_samples = 1\nwidth_exponent = 0.0\nsamples_exponent = 0.0\n\n# the grid",
    )
    after = with_rate_law(there, LAW)
    assert "\nfactor = 1.5  # mine\ntoken_width = 48\n" in after
    assert "learning_rate" not in after
    assert after.endswith(BEFORE[BEFORE.index("# the grid") :])


def test_an_inline_law_of_an_earlier_version_is_replaced():
    old = "{learning_rate = 0.1, token_width = 1, n_samples = 1, width_exponent = 0.0, samples_exponent = 0.0}"
    after = with_rate_law(f"[train]\nrate_law = {old}\n", LAW)
    assert tomllib.loads(after)["train"]["rate_law"] == DOCUMENT


@pytest.mark.parametrize(
    "text",
    [
        'train = { packing = "request" }\n[study]\nname = "x"\n',
        'train.packing = "request"\n[study]\nname = "x"\n',
        '[study]\r\nname = "x"\r\n',
        '[study]\nname = "x"\n[grid]\nn_samples = [1]',
    ],
)
def test_a_law_finds_its_place_in_any_form_of_the_file(text):
    after = with_rate_law(text, LAW)
    document = tomllib.loads(after)
    assert document.pop("train")["rate_law"] == DOCUMENT
    assert document == {k: v for k, v in tomllib.loads(text).items() if k != "train"}
    assert ("\r\n" in text) == ("\r\n" in after)


def test_every_shipped_study_has_a_place_for_a_law():
    studies = sorted((Path(__file__).parents[2] / "studies").glob("*.toml"))
    for path in studies:
        text = path.read_text(encoding="utf-8")
        assert with_rate_law(text, LAW).startswith(text)
