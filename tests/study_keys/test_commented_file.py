"""A commented study file loads, and its commented defaults are the defaults."""

import re
import tomllib
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.study import DataConfig, data_facts, load_study
from scaling.study_keys import commented_study, described_sections, fit_grid, toml_value
from sweeps.planning import grid_cells

GENERATE = {"n_train": 50_000, "n_test": 100}


def file_of(data, generate=None, train=None):
    facts = data_facts(DataConfig(str(data), generate))
    grid = fit_grid(facts)
    values = {
        "study": {"name": "x"},
        "data": {"path": str(data)},
        "grid": grid.grid,
        "train": train if train is not None else grid.train,
        "data.generate": generate or {},
    }
    return commented_study(["A study."], values)


def loaded(tmp_path, text):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return load_study(path)


def signatures(study):
    facts = replace(data_facts(study.data), fingerprint="0" * 64)
    return [cell.signature for cell in grid_cells(study, facts)]


def off_lines(text):
    """The lines of keys that are commented out in sections that are not, with a value or without."""
    found, is_on = [], False
    for number, line in enumerate(text.splitlines()):
        if re.match(r"#?\[", line):
            is_on = line.startswith("[")
        if is_on and re.match(r"#\w+ =", line):
            found.append((number, line))
    return found


def without_mark(text, numbers):
    lines = text.splitlines()
    for number in numbers:
        lines[number] = lines[number].removeprefix("#")
    return "\n".join(lines)


GENERATED = file_of("data/none", GENERATE)
DEFAULTS = [number for number, line in off_lines(GENERATED) if not line.endswith("=")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


@given(st.sets(st.sampled_from(DEFAULTS)))
def test_a_default_without_its_mark_changes_nothing(folder, numbers):
    before = loaded(folder, GENERATED)
    after = loaded(folder, without_mark(GENERATED, numbers))
    assert signatures(after) == signatures(before)
    assert (after.run, after.slurm, after.goal) == (before.run, before.slurm, before.goal)


def test_all_defaults_at_once_are_the_same_study(folder):
    after = loaded(folder, without_mark(GENERATED, DEFAULTS))
    assert len(DEFAULTS) > 35
    assert signatures(after) == signatures(loaded(folder, GENERATED))


def test_a_key_without_a_value_is_told_by_its_line(folder):
    number = next(n for n, line in off_lines(GENERATED) if line.endswith("="))
    with pytest.raises(Exception, match=f"line {number + 1}"):
        loaded(folder, without_mark(GENERATED, [number]))


def test_every_key_of_every_section_is_there_once():
    for section in described_sections():
        header = re.escape(f"[{section.name}]")
        body = re.search(rf"(?ms)^#?{header}$(.*?)(?=^#?\[|\Z)", GENERATED)[1]
        found = re.findall(r"^#?(\w+) =", body, re.MULTILINE)
        assert found == [key.name for key in section.keys], section.name


def test_an_optional_section_is_off_with_its_keys():
    goal = GENERATED[GENERATED.index("#[goal]") :]
    assert all(line.startswith("#") for line in goal.splitlines())
    assert "\n[data.generate]\nn_train" in re.sub(r"(?m)^# .*\n", "", GENERATED)


def test_a_store_gets_its_sizes(tmp_path, tiny_store):
    study = loaded(tmp_path, file_of(tiny_store.path))
    assert study.grid.n_samples[-1] == "all"
    assert len(study.grid.n_samples) >= 3
    assert len(signatures(study)) == len(set(signatures(study)))


@given(
    st.recursive(
        st.booleans()
        | st.integers(-(2**60), 2**60)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.text(st.characters(exclude_categories=["Cs"]), min_size=1), inner, max_size=4
            )
        ),
        max_leaves=8,
    )
)
def test_any_value_is_written_as_toml(value):
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value


def grid_for(n_train, store):
    facts = data_facts(DataConfig(str(store.path)))
    return fit_grid(replace(facts, n_train=n_train))


@pytest.mark.parametrize("n_train", [3, 40, 1000, 20_000, 1_000_000, 30_000_000, 3_000_000_000])
def test_a_grid_has_three_sizes_on_each_axis_and_none_beyond_the_data(n_train, tiny_store):
    grid = grid_for(n_train, tiny_store).grid
    sizes = [n_train if one == "all" else one for one in grid["n_samples"]]
    assert 3 <= len(sizes) <= 5
    assert sizes == sorted(set(sizes))
    assert sizes[0] >= 1
    assert sizes[-1] == n_train
    assert 4 <= len(grid["grade"]) <= 5
    assert len(grid["n_seeds"]) == len(sizes)


@given(n_train=st.integers(40, 10**9))
def test_four_data_sizes_span_a_decade(n_train, tiny_store):
    sizes = grid_for(n_train, tiny_store).grid["n_samples"]
    assert len(sizes) >= 4
    assert n_train >= 10 * sizes[0]


def test_a_small_log_goes_down_to_some_hundred_impressions_and_says_so(tiny_store):
    small, large = (grid_for(n, tiny_store) for n in (9_600, 100_000))
    assert small.grid["n_samples"] == [300, 950, 3000, "all"]
    assert "small for a law of the data size" in small.remarks[0]
    assert large.remarks == ()


def test_larger_data_feed_larger_grades_as_long_as_they_are_cheap(tiny_store):
    small, some, many = (grid_for(n, tiny_store).grid["grade"][-1] for n in (10**4, 10**5, 10**8))
    assert small < some
    assert many < some


def test_packing_is_proposed_where_requests_have_several_impressions(tiny_store):
    facts = data_facts(DataConfig(str(tiny_store.path)))
    alone = replace(facts, shape=replace(facts.shape, per_request=1.0))
    assert fit_grid(facts).train == {"packing": "request"}
    assert fit_grid(alone).train == {}
    assert asdict(fit_grid(alone))["grid"] == fit_grid(facts).grid
