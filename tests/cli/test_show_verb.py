"""`scaling show` and `scaling diff`: where values come from, and in what studies, cells and runs differ."""

import json

import pytest
from small_studies import plan_of


def shown(out):
    """The rows of the table by key: value and origin."""
    rows = [line.split("  ") for line in out.splitlines()]
    return {row[0]: [part.strip() for part in row[1:] if part.strip()] for row in rows}


def row_of(run, *arguments):
    code, out, err = run("show", *arguments, "--json")
    assert code == 0, err
    return {one["key"]: one for one in json.loads(out)}


def test_a_study_tells_where_its_values_come_from(run, study_file):
    code, out, _ = run("show", study_file, "--set", "train.batch_size=32")
    rows = shown(out)
    assert code == 0
    assert rows["grid.grade"] == ['["SUAN-0", "SUAN-1"]', "line 6"]
    assert rows["train.batch_size"] == ["32", "--set"]
    assert rows["train.learning_rate"] == ["by the recipe, or by `rate_law`", "default"]
    assert rows["model.norm"] == ['"rms"', "default"]


def test_a_cell_is_named_by_its_label_or_its_signature(run, study_file):
    by_label = row_of(run, study_file, "SUAN-1 D=160 s0")
    plan = json.loads(run("plan", study_file, "--json")[1])["cells"]
    (cell,) = [c for c in plan if c["grade"] == "SUAN-1" and c["n_samples"] == 160]
    assert row_of(run, study_file, cell["signature"][:8]) == by_label
    assert by_label["n_samples"] == {
        "key": "n_samples",
        "value": 160,
        "otherwise": "",
        "from": "grid.n_samples, line 7",
    }


@pytest.mark.parametrize(
    ("override", "key", "origin"),
    [
        ("study.description='x'", "batch_size", "recipe 2"),
        ("train.recipe=1", "learning_rate", "recipe 1"),
        ("train.batch_size=8", "batch_size", "train.batch_size, --set"),
        ("train.learning_rate=0.1", "learning_rate", "train.learning_rate, --set"),
        ("train.rate_multiple=2.0", "learning_rate", "recipe 2, times train.rate_multiple"),
        (
            "train.rate_law={token_width=48, n_samples=1000, width_exponent=0.0, samples_exponent=0.0, factor=1.0}",
            "learning_rate",
            "train.rate_law",
        ),
        ("model.norm='layer'", "model.norm", "model.norm, --set"),
        ("grid.model={norm=['layer']}", "model.norm", "grid.model.norm, --set"),
        ("train.schedule='constant'", "schedule", "train.schedule, --set"),
        ("study.description='x'", "grade.d", "the ladder"),
        ("study.description='x'", "seed", "grid.n_seeds, default"),
        ("study.description='x'", "data_fingerprint", "the store, data.path, line 4"),
        ("distill.teacher='SUAN-2'", "distill.teacher.d", "distill.teacher, --set"),
        ("distill.teacher='SUAN-2'", "distill.temperature", "default"),
    ],
)
def test_a_value_of_a_cell_has_its_origin(run, study_file, override, key, origin):
    names = [name for name in cells_of(run, study_file, override) if "D=160" in name]
    rows = row_of(run, study_file, names[0], "--set", override)
    assert rows[key]["from"] == origin


def cells_of(run, study_file, override):
    made, _ = plan_of(study_file, override)
    return [cell.config.label for cell in made.cells]


def test_the_size_of_an_own_grade_has_its_line(run, study_file):
    text = study_file.read_text().replace('"SUAN-1"]', '"W", "LightW"]')
    study_file.write_text(text + "[grades.W]\nn_layers = 1\nn_heads = 1\nd = 2\nmax_len = 3\n")
    for name in ("W", "LightW"):
        rows = row_of(run, study_file, f"{name} D=160 s0")
        assert rows["grade.d"]["from"] == "grades.W.d, line 11"
    assert rows["model.kind"] == {
        "key": "model.kind",
        "value": "lightsuan",
        "otherwise": "",
        "from": "grid.grade, line 6",
    }


def test_a_cell_that_is_not_there_is_told_with_the_nearest_name(run, study_file):
    code, out, err = run("show", study_file, "SUAN-0 D=161 s0")
    assert (code, out) == (2, "")
    assert err == "error: cell SUAN-0 D=161 s0: no such cell, did you mean SUAN-0 D=160 s0?\n"


def test_names_of_cells_are_offered_beside_their_signatures(run, study_file):
    _, _, err = run("show", study_file, "zzz")
    plan = json.loads(run("plan", study_file, "--json")[1])["cells"]
    assert f"one of: 'SUAN-0 D=160 s0' ({plan[0]['signature'][:8]}), " in err
    assert err.count("\n") == 1


def test_a_folder_of_runs_is_no_study(run, tmp_path):
    (tmp_path / "own-log").mkdir()
    code, _, err = run("show", tmp_path / "own-log")
    assert code == 2
    assert err.endswith(
        "a folder, expected a study file (.toml), e.g. the one whose study.name is own-log\n"
    )


def test_a_cell_of_data_to_come_has_no_signature_yet(run, study_file):
    text = study_file.read_text().replace("[grid]", "[data.generate]\nn_train = 400\n[grid]")
    lines = ['path = "none"' if line.startswith("path") else line for line in text.splitlines()]
    study_file.write_text("\n".join(lines))
    code, out, _ = run("show", study_file, "SUAN-0 D=160 s0")
    assert code == 0
    assert "signature known when the data are there" in out


def test_two_studies_differ_only_in_what_is_told(run, study_file):
    other = study_file.with_name("other.toml")
    other.write_text(study_file.read_text().replace("160", "80") + '[train]\nschedule = "decay"\n')
    code, out, _ = run("diff", study_file, other)
    assert code == 0
    assert len(out.splitlines()) == 2
    assert shown(out)["grid.n_samples"] == ["[160, 320]", "[80, 320]"]


def test_own_grades_are_told_by_their_sizes_only(run, study_file):
    other = study_file.with_name("other.toml")
    grades = "[grades.W]\nn_layers = 1\nn_heads = 1\nd = 2\nmax_len = 3\n"
    other.write_text(study_file.read_text() + grades)
    keys = [line.split()[0] for line in run("diff", study_file, other)[1].splitlines()[1:]]
    assert keys == [f"grades.W.{name}" for name in ("n_layers", "n_heads", "d", "max_len")]


def test_equal_studies_have_no_difference(run, study_file):
    code, out, _ = run("diff", study_file, study_file)
    assert code == 0
    assert out.startswith("no difference in ")
    assert run("diff", study_file, study_file, "--json")[1] == "[]\n"


def test_two_cells_differ_in_their_settings(run, study_file):
    names = [f"{study_file}#SUAN-{k} D=160 s0" for k in (0, 1)]
    found = json.loads(run("diff", *names, "--json")[1])
    keys = {one["key"] for one in found}
    assert {"config.grade_name", "config.grade.d", "config.learning_rate"} <= keys
    assert "config.n_samples" not in keys


def test_a_run_is_compared_with_a_run_and_with_its_cell(run, study_file):
    pytest.importorskip("torch")
    for cell in ("SUAN-0", "SUAN-1"):
        plan = json.loads(run("plan", study_file, "--json")[1])["cells"]
        (signature,) = [c["signature"] for c in plan if (c["grade"], c["n_samples"]) == (cell, 160)]
        assert run("train", study_file, "--cell", signature)[0] == 0
    folders = sorted(path.parent for path in (study_file.parent / "runs").rglob("record.json"))
    found = [one["key"] for one in json.loads(run("diff", *folders, "--json")[1])]
    assert max(map(len, run("diff", *folders, "--all")[1].splitlines())) < 400
    assert {"provenance.attempts", "by_day"} & set(found)
    is_setting = [key.startswith("config.") for key in found]
    assert is_setting == sorted(is_setting, reverse=True)
    text = run("diff", *folders)[1]
    assert "train_seconds" not in text
    assert "metrics.logloss " in text
    assert text.splitlines()[-1].endswith("differ: --all shows them")
    assert {"config.grade.d", "metrics.logloss", "n_params"} <= set(found)
    assert "config.n_samples" not in found
    own = json.loads((folders[0] / "record.json").read_text())["config"]["grade_name"]
    code, out, _ = run("diff", folders[0], f"{study_file}#{own} D=160 s0")
    assert code == 0
    assert out.startswith("no difference in ")


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        (("study.toml", "study.toml#SUAN-0 D=160 s0"), "name a cell of the study as STUDY#CELL"),
        (("study.toml", "none.toml"), "none.toml: cannot be read"),
        ((".", "study.toml"), "no record.json or config.json"),
    ],
)
def test_what_cannot_be_compared_is_one_line(run, study_file, pair, says):
    code, out, err = run("diff", *pair)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_a_damaged_record_is_named(run, study_file):
    for name in ("a", "b"):
        (study_file.parent / name).mkdir()
        (study_file.parent / name / "record.json").write_text("[]")
    code, _, err = run("diff", "a", "b")
    assert code == 2
    assert "a/record.json: input should be an object" in err
