"""With a bad study, every verb prints one line to stderr, exits with 2 and writes nothing."""

import shutil

import numpy as np
import pytest

from scaling.cli.app import main
from scaling.synthetic import SyntheticConfig, generate_logs

STUDY = """\
[study]
name = "tiny"

[data]
path = "log"

[grid]
grade = ["SUAN-0", "SUAN-1"]
n_samples = [100, 200]

[train]
schedule = "decay"
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "log"
    generate_logs(path, SyntheticConfig(n_train=300, n_test=100, n_items=200, warmup_events=10))
    return path


@pytest.fixture
def study(tmp_path, monkeypatch, log):
    """A folder with a good study and its data, as working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(log, tmp_path / "log")
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def tree(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def fails(capsys, folder, *arguments):
    """Run the command; return its one line of error after checking that nothing was written."""
    before = tree(folder)
    with pytest.raises(SystemExit) as exited:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert (exited.value.code, out, err.count("\n")) == (2, "", 1), err
    assert tree(folder) == before
    return err.removeprefix("error: ").strip()


def edit(study, old, new):
    text = study.read_text()
    assert old in text
    study.write_text(text.replace(old, new))


def test_the_study_without_an_error_is_good(study, capsys):
    with pytest.raises(SystemExit) as exited:
        main(["plan", "study.toml"])
    assert exited.value.code == 0
    assert "4 cells: 4 missing" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["plan", "status", "submit", "run"])
@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("schedule", "shedule", "study.toml: train.shedule: unknown key, did you mean schedule?"),
        ("[train]", "[trian]", "study.toml: trian: unknown key, did you mean train?"),
        (
            "SUAN-1",
            "SUAN-l",
            "study.toml: grid.grade: there is no grade SUAN-l, did you mean SUAN-",
        ),
        (
            "200]",
            "3_000]",
            "study.toml: grid.n_samples: 3000 is more than the 300 training impressions of log",
        ),
        ('"log"', '"lag"', "lag: no event store; make one with `scaling data import`"),
        ("[grid]", "[grid", "study.toml: not a TOML file: Expected ']'"),
        ('"decay"', '"decays"', "study.toml: train.schedule: 'decays' is not one of 'decay'"),
        ("[100, 200]", '["100"]', "study.toml: grid.n_samples"),
        ("[100, 200]", "[100, 100]", "study.toml: grid.n_samples: 100 is given twice"),
        ("[100, 200]", "[]", "study.toml: grid.n_samples: empty"),
        ('grade = ["SUAN-0", "SUAN-1"]', "", "study.toml: grid.grade: missing"),
        ('"tiny"', '"../tiny"', "study.toml: study.name: '../tiny' cannot be a folder's name"),
    ],
)
def test_a_bad_study_file(study, capsys, verb, old, new, expected):
    edit(study, old, new)
    assert fails(capsys, study.parent, verb, "study.toml").startswith(expected)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.learing_rate=1e-3", "train.learing_rate: unknown key, did you mean learning_rate?"),
        ("train.learning_rate=fast", "train.learning_rate: input should be a valid number"),
        ("model.norm=batch", "model.norm: 'batch' is not one of 'rms' or 'layer'"),
        ("grid.model.nrm=['rms']", "grid.model.nrm: there is no such option, did you mean norm?"),
        ("model.dropout=1.5", "study.toml: model: dropout is 1.5, expected 0 <= dropout < 1"),
        ("grid.n_seeds=[1, 2, 3]", "grid.n_seeds: 3 numbers for 2 data sizes"),
        ("learning_rate=1e-3", "expected section.key=value"),
        ("train.learning_rate", "expected section.key=value"),
        ("study.name.x=1", "name is not a section"),
    ],
)
def test_a_bad_override(study, capsys, override, expected):
    assert expected in fails(capsys, study.parent, "run", "study.toml", "--set", override)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "none.toml"], "none.toml: cannot be read: No such file"),
        (["run", "."], ".: a folder, expected a study file (.toml)"),
        (["submit", "study.toml", "--cluster", "slrum"], "no such choice, did you mean slurm?"),
        (["run", "study.toml", "--only", "grad=SUAN-0"], "did you mean grade?"),
        (["run", "study.toml", "--only", "grade=SUAN-9"], "no cell has that grade"),
        (["run", "study.toml", "--jobs", "0"], "--jobs"),
        (["train", "study.toml", "--cell", "xyz"], "cell xyz: no such cell"),
        (
            ["-q", "run", "study.toml", "--runs", "study.toml"],
            "study.toml: a file, expected the folder of all runs",
        ),
        (["runn", "study.toml"], "runn"),
    ],
)
def test_wrong_use(study, capsys, arguments, expected):
    assert expected in fails(capsys, study.parent, *arguments)


def lose_column(store):
    (store / "behaviours" / "feature.item.npy").unlink()


def put_nan(store):
    label = np.load(store / "impressions" / "label.npy").astype(np.float32)
    label[3] = np.nan
    np.save(store / "impressions" / "label.npy", label)


def unsort(store):
    time = np.load(store / "behaviours" / "time.npy")
    np.save(store / "behaviours" / "time.npy", time[::-1])


def truncate(store):
    path = store / "impressions" / "time.npy"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("verb", ["submit", "run"])
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lose_column, "feature.item.npy: missing"),
        (put_nan, "label.npy"),
        (unsort, "events must be sorted by (user, time)"),
        (truncate, "rows found"),
    ],
)
def test_damaged_data_are_refused_before_a_cell_is_trained(study, capsys, verb, damage, expected):
    damage(study.parent / "log")
    assert expected in fails(capsys, study.parent, verb, "study.toml")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["submit", "study.toml", "--cluster", "slrum"],
            "--cluster slrum: no such choice, did you mean slurm?",
        ),
        (
            ["retry", "study.toml", "--class", "tiemout"],
            "--class tiemout: no such choice, did you mean timeout?",
        ),
        (
            ["submit", "study.toml", "--cluster", "x"],
            "--cluster x: no such choice, expected one of: debug, local, slurm",
        ),
    ],
)
def test_a_wrong_choice_names_the_option_the_value_and_the_nearest_one(
    study, capsys, arguments, expected
):
    assert fails(capsys, study.parent, *arguments) == expected


def test_a_wrong_setting_of_generated_logs_names_the_file_and_the_key(study, capsys):
    edit(study, 'path = "log"', 'path = "new"\n\n[data.generate]\nn_train = 100\nn_test = 0')
    expected = "study.toml: data.generate: n_test is 0, expected 1 or more"
    assert fails(capsys, study.parent, "plan", "study.toml") == expected


def test_a_cell_that_appears_twice_names_the_file_and_the_key(study, capsys):
    edit(study, "n_samples = [100, 200]", 'n_samples = [300, "all"]')
    assert fails(capsys, study.parent, "plan", "study.toml").startswith("study.toml: grid: ")
