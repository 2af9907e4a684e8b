"""Each value of a study is told with the line, the override or the default that it comes from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.study import load_study
from scaling.study_keys import key_lines, settings_of

TEXT = """\
# a comment
[study]
name = "x"
[data]
path = "data/x"

[grid]
grade = [
  "SUAN-0",

  "SUAN-1",  # with a comment
]
n_samples = [100]
"model.norm" = ["rms", "layer"]
[grades]
W = { n_layers = 1, n_heads = 1,
  d = 2, max_len = 8 }
[train]
packing = "none"
"""


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "study.toml"
    # an inline table of several lines is an error of TOML 1.0
    path.write_text(TEXT.replace("n_heads = 1,\n", "n_heads = 1,"))
    overrides = ["train.batch_size=32"]
    study = load_study(path, overrides)
    return {one.key: one for one in settings_of(study, path.read_text(), overrides)}


@pytest.mark.parametrize(
    ("key", "value", "origin"),
    [
        ("study.name", "x", "line 3"),
        ("grid.grade", ("SUAN-0", "SUAN-1"), "line 8"),
        ("grid.n_samples", (100,), "line 13"),
        ("grid.model.norm", ("rms", "layer"), "line 14"),
        ("grades.W.d", 2, "line 16"),
        ("train.packing", "none", "line 18"),
        ("train.batch_size", 32, "--set"),
        ("train.schedule", "decay", "default"),
        ("slurm.cpus", 1, "default"),
        ("model.kind", "suan", "default"),
    ],
)
def test_a_value_has_its_origin(settings, key, value, origin):
    assert (settings[key].value, settings[key].origin) == (value, origin)


@given(st.lists(st.sampled_from(["\n", "# c\n", "k{} = [\n 1,\n]\n", "k{} = 1\n"]), max_size=8))
def test_a_key_stands_where_its_statement_begins(parts):
    text, expected = "", {}
    for number, part in enumerate(parts):
        if part.startswith("k"):
            expected[f"k{number}"] = text.count("\n") + 1
        text += part.format(number)
    assert key_lines(text) == expected
