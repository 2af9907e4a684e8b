"""`scaling verify`: which finished runs are no longer as they were written, and what other verbs do about these."""

import pytest
from recorded_runs import edit_record, write_study

from scaling.records import RunStore


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return RunStore(tmp_path / "runs" / "t"), write_study(tmp_path / "runs" / "t")


def damage(store, record):
    path = store.folder(record.signature) / "record.json"
    path.write_text(path.read_text().replace('"logloss": 0.', '"logloss": 0.0'))
    return path


def test_intact_runs_are_counted(run, study):
    assert run("verify", "runs/t") == (0, "4 finished runs: 4 intact, 0 damaged\n", "")


def test_the_folder_of_all_studies_is_read_as_well(run, study):
    assert run("verify", "runs")[:2] == (0, "4 finished runs: 4 intact, 0 damaged\n")


def test_a_damaged_record_is_named(run, study):
    store, records = study
    path = damage(store, records[2])
    code, out, err = run("verify", "runs/t")
    assert (code, err) == (1, "")
    first, last = out.splitlines()
    assert first.startswith("damaged  ")
    assert str(path.relative_to(path.parents[3])) in first
    assert last == "4 finished runs: 3 intact, 1 damaged"


def test_sizes_of_the_same_grade_agree(run, study):
    """In records of earlier versions, which have no digest."""
    store, records = study
    for record, factor in zip(records, (1, 1, 1, 2), strict=True):
        path = store.folder(record.signature) / "record.json"
        edit_record(path, lambda document, n=factor * record.n_params: document.update(n_params=n))
    code, out, _ = run("verify", "runs/t")
    assert code == 1
    assert "a run of the same grade, model and data; one of them was changed" in out
    assert out.endswith("4 finished runs: 3 intact, 1 damaged; 3 of earlier versions, without digests: types and sizes were checked\n")  # fmt: skip


def test_a_folder_without_runs_is_told(run, study):
    code, out, err = run("verify", ".")
    assert (code, out) == (2, "")
    assert err.startswith("error: .: no finished run; ")


def test_tables_go_on_without_a_damaged_run_and_name_it(run, study):
    store, records = study
    path = damage(store, records[0])
    code, out, err = run("table", "runs/t")
    assert code == 0
    assert len(out.splitlines()) == 1 + 3
    assert err.count("\n") == 1
    assert f"{path.parent.name}/record.json: its digest does not match" in err


def test_measured_latencies_that_cannot_be_read_are_told(study, run):
    store, records = study
    path = store.folder(records[0].signature) / "serving.json"
    path.write_text("{}")
    code, out, _ = run("verify", "runs/t")
    assert code == 1
    assert f"runs/t/{records[0].signature}/serving.json: signature: missing" in out


def test_colours_in_a_name_are_not_those_of_the_terminal(study, run):
    store, _ = study
    folder = store.root / "\x1b[31mevil"
    folder.mkdir()
    (folder / "record.json").write_text("x")
    assert "\x1b" not in run("verify", "runs/t")[1]
