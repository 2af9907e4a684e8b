"""The verbs on event stores, run as a user types them."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from slow_cases import fast_only

from scaling.cli.app import main
from scaling.importers import IMPORTERS

HOME = Path(__file__).resolve().parents[2]
RATINGS = "1::10::5::978300760\n1::20::3::978300761\n2::10::4::978300800\n2::20::4::978300900\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "store"
    command = ["data", "generate", str(path), "--n-train", "300", "--n-test", "200"]
    with pytest.raises(SystemExit) as exited:
        main([*command, "--n-items", "300", "--warmup-events", "10"])
    assert exited.value.code == 0
    return path


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exited:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return exited.value.code, captured.out, captured.err


def fails(capsys, *arguments):
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    return err


def make_raw(folder):
    folder.mkdir()
    (folder / "ratings.dat").write_text(RATINGS)
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    (folder / "movies.dat").write_text("10::One (1995)::Comedy\n20::Two (1987)::Drama\n")
    return folder


def test_import_prints_the_folder_and_counts_the_rows(tmp_path, capsys):
    raw, out = make_raw(tmp_path / "raw"), tmp_path / "out"
    code, printed, log = run(capsys, "data", "import", "movielens-1m", raw, out)
    assert (code, printed) == (0, f"{out}\n")
    assert "ratings: 4 rows read = 4 kept + 0 repeated" in log
    assert "3 training and 1 test impressions" in log


def test_options_of_a_data_set_are_pairs(tmp_path, capsys):
    raw = make_raw(tmp_path / "raw")
    command = ["data", "import", "movielens-1m", raw]
    assert run(capsys, *command, tmp_path / "a", "--option", "min_rating=5")[0] == 0
    _, printed, _ = run(capsys, "data", "show", tmp_path / "a", "--json")
    assert json.loads(printed)["base_rate"]["train"] == pytest.approx(1 / 3)
    assert "expected KEY=VALUE" in fails(capsys, *command, tmp_path / "b", "--option", "min_rating")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["import", "movielens-1", "RAW", "OUT"], "did you mean movielens-1m?"),
        (["import", "movielens-1m", "RAW/none", "OUT"], "no such folder"),
        (["import", "movielens-1m", "RAW", "RAW"], "already exists"),
        (["generate", "RAW", "--n-train", "10"], "already exists"),
        (["generate", "OUT", "--n-train", "0"], "n_train is 0, expected 1 or more"),
        (
            ["generate", "OUT", "--n-train", "1", "--n-test", "1"],
            "in every row of the training part",
        ),
        (["generate", "OUT"], "--n-train"),
        (["show", "RAW"], "not a data set (no dataset.json)"),
        (["validate", "RAW"], "not a data set (no dataset.json)"),
        (["check", "RAW"], "not a data set (no dataset.json)"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(tmp_path, capsys, arguments, expected):
    raw = make_raw(tmp_path / "raw")
    filled = [a.replace("RAW", str(raw)).replace("OUT", str(tmp_path / "out")) for a in arguments]
    assert expected in fails(capsys, "data", *filled)
    assert [file.name for file in tmp_path.iterdir()] == ["raw"]


def test_show_prints_the_parts_of_a_store(store, capsys):
    code, printed, _ = run(capsys, "data", "show", store)
    assert code == 0
    for expected in ("bayes_logloss", "by user", "fingerprint", "train", "candidate", "p50"):
        assert expected in printed


def test_stdout_has_only_the_json_with_unrounded_numbers(store, capsys):
    _, printed, _ = run(capsys, "data", "show", store, "--json")
    document = json.loads(printed)
    assert document["counts"]["train"] == 300
    assert document["counts"]["test"] == 200
    assert document["schema"]["vocabularies"]["item"] == 302
    assert document["truth"] == json.loads((store / "dataset.json").read_text())["truth"]


def test_show_writes_to_a_file(store, capsys, tmp_path):
    _, printed, _ = run(capsys, "data", "show", store, "--json", "-o", tmp_path / "show.json")
    assert printed == ""
    assert json.loads((tmp_path / "show.json").read_text())["counts"]["impressions"] == 500


def truncate(file):
    file.write_bytes(file.read_bytes()[:-100])


def unsort(file):
    np.save(file, np.load(file)[::-1])


def put_nan(file):
    label = np.load(file).astype(np.float32)
    label[3] = np.nan
    np.save(file, label)


@pytest.mark.parametrize(
    ("name", "damage", "expected"),
    [
        ("impressions/time", truncate, "487 rows found, dataset.json says 500"),
        ("behaviours/time", unsort, "events must be sorted by (user, time)"),
        ("behaviours/feature.item", lambda file: file.unlink(), "missing; expected"),
        ("impressions/label", put_nan, "row 3 is nan"),
    ],
)
def test_a_damaged_store_is_one_line(store, tmp_path, capsys, name, damage, expected):
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    damage(copy / f"{name}.npy")
    code, printed, _ = run(capsys, "data", "validate", copy)
    assert code == 1
    assert expected in printed
    assert f"{name}.npy" in printed.splitlines()[0]


def test_a_good_store_passes(store, capsys):
    assert run(capsys, "data", "validate", store)[:2] == (0, f"{store}: good, every row checked\n")
    _, printed, _ = run(capsys, "data", "validate", store, "--json")
    assert json.loads(printed) == {"path": str(store), "breaches": []}


def test_every_violation_has_its_own_line(store, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    for name, row, value in (("label", 3, 7), ("label", 9, 7), ("candidate.item", 5, 0)):
        array = np.load(copy / f"impressions/{name}.npy")
        array[row] = value
        np.save(copy / f"impressions/{name}.npy", array)
    code, printed, _ = run(capsys, "data", "validate", copy, "--json")
    first, second, *digests = json.loads(printed)["breaches"]
    assert code == 1
    assert first.endswith("label.npy: row 3 is neither 0 nor 1 (and 1 more)")
    assert second.endswith("candidate.item.npy: row 5 is not an id of 'item', expected 1 to 301")
    assert [line.split(": ")[0].split("/")[-1] for line in digests] == [
        "label.npy",
        "candidate.item.npy",
    ]


def test_show_draws_a_picture(store, tmp_path, capsys):
    code, printed, _ = run(capsys, "data", "show", store, "--plot", tmp_path / "store.png")
    assert code == 0
    assert "p50" in printed
    assert (tmp_path / "store.png").read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["store.png"]
    error = fails(capsys, "data", "show", store, "--plot", tmp_path / "store.jpg")
    assert "expected a name that ends in .png, .pdf, .svg" in error


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda d: d.update(source=None), "source: input should be an object"),
        (lambda d: d["truth"].update(bayes_auc="high"), "truth.bayes_auc: input should be a valid"),
        (lambda d: d.update(split=None), "split: input should be an object"),
    ],
)
def test_a_damaged_document_is_one_line(store, tmp_path, capsys, edit, expected):
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    document = json.loads((copy / "dataset.json").read_text())
    edit(document)
    (copy / "dataset.json").write_text(json.dumps(document))
    assert f"dataset.json: {expected}" in fails(capsys, "data", "show", copy)


def test_a_time_outside_the_calendar_is_one_line(store, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    file = copy / "impressions/time.npy"
    time = np.load(file)
    time[0] = 2**60
    np.save(file, time)
    error = fails(capsys, "data", "show", copy)
    assert "impressions/time.npy: " in error
    assert "expected unix seconds" in error


def test_the_help_of_import_names_every_data_set_and_its_options(capsys):
    _, text, _ = run(capsys, "data", "import", "--help")
    text = " ".join(text.split())
    for name, importer in IMPORTERS.items():
        assert f"{name}: {importer.summary}. Options:" in text
        for key, value in asdict(importer.options).items():
            assert f"{key}={value}" in text


@pytest.mark.parametrize(
    "name", fast_only(["models.py"], ["models.py", "analysis.py", "random.py"])
)
def test_a_stray_file_in_the_working_directory_hides_no_package(tmp_path, name):
    (tmp_path / name).write_text("raise SystemExit('the stray file was imported')")
    done = run_module(tmp_path, HOME)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stray_file_before_the_package_on_the_path_is_named(tmp_path):
    (tmp_path / "models.py").touch()
    (tmp_path / "elsewhere").mkdir()
    done = run_module(tmp_path / "elsewhere", f"{tmp_path}{os.pathsep}{HOME}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"error: {tmp_path / 'models.py'} is found in place of")


def run_module(folder, path):
    return subprocess.run(
        [sys.executable, "-m", "scaling", "grades"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    # A limit on the file size, in a separate process, simulates the full disk.
    program = (
        "import resource as r; from scaling.cli import main\n"
        "soft, hard = r.getrlimit(r.RLIMIT_FSIZE); r.setrlimit(r.RLIMIT_FSIZE, (4096, hard))\n"
        "try: main()\n"
        "finally: r.setrlimit(r.RLIMIT_FSIZE, (soft, hard))"
    )
    command = [sys.executable, "-c", program, "data", "generate", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--n-train", "2000", "--n-test", "500"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == f"error: {tmp_path / 'out'}: cannot be written: File too large"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["import", "generate", "show", "check", "validate"])
def test_help_has_an_example_and_imports_nothing_heavy(verb):
    program = (
        "import sys\nfrom scaling.cli import main\n"
        "try: main()\nfinally: assert not {'numpy', 'pandas', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "data", verb, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"Example: scaling data {verb} " in " ".join(done.stdout.split())
