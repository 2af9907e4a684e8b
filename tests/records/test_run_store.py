import subprocess
import sys
from dataclasses import replace

import pytest
from recorded_runs import edit_record
from small_runs import move_to_another_host

from models.grades import Grade
from models.model_options import SuanOptions
from scaling.errors import UserError
from scaling.records import RunRecord, RunStore, claim
from scaling.study import RunConfig

CONFIG = RunConfig(
    "SUAN-1",
    Grade(1, 1, 3, 16),
    SuanOptions(),
    4096,
    0,
    16,
    0.004,
    "decay",
    "independent",
    "f" * 64,
    40,
)
RECORD = RunRecord(
    config=CONFIG,
    n_params=100,
    n_embedding_params=200,
    flops_per_sample=1000,
    flops=12_288_000,
    metrics={"logloss": 0.5, "auc": 0.7},
    train_loss=0.6,
    train_seconds=2.0,
    samples_per_second=2048.0,
    peak_memory_gib=0.3,
    provenance={"git_commit": "abc", "truth": None},
)


@pytest.fixture
def runs(tmp_path):
    return RunStore(tmp_path / "study")


def test_a_record_survives_the_disk(runs):
    runs.write(RECORD)
    assert runs.read(CONFIG.signature) == RECORD


def test_a_finished_run_is_never_overwritten(runs):
    path = runs.write(RECORD)
    before = path.read_bytes()
    runs.write(replace(RECORD, train_loss=0.1))
    assert path.read_bytes() == before


def test_the_error_for_an_older_record_names_its_version(runs):
    path = runs.write(RECORD)

    def as_of_schema_2(document):
        del document["config"]["warmup_steps"]
        document["config"]["schema_version"] = 2

    edit_record(path, as_of_schema_2)
    with pytest.raises(UserError, match=r"of run schema 2.* choose another folder of runs$"):
        runs.read(CONFIG.signature)


def test_all_records_come_smallest_first(runs):
    large = replace(RECORD, config=replace(CONFIG, n_samples=9999))
    for record in (large, RECORD):
        runs.write(record)
    assert runs.read_all() == [RECORD, large]


def test_a_record_in_the_wrong_folder_is_refused(runs):
    path = runs.write(RECORD)
    path.parent.rename(runs.folder("0" * 16))
    with pytest.raises(UserError, match="put it back into the folder of that name"):
        runs.read("0" * 16)


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"config": 3}'])
def test_a_damaged_record_is_an_error(runs, damage):
    path = runs.write(RECORD)
    path.write_text(damage)
    with pytest.raises(UserError, match=r"record\.json: \w.*; remove .* to train the run again$"):
        runs.read(CONFIG.signature)


def test_a_record_with_nan_is_not_written(runs):
    with pytest.raises(ValueError, match="not JSON compliant"):
        runs.write(replace(RECORD, metrics={"auc": float("nan")}))
    assert not list(runs.root.rglob("*"))[1:]


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        ("exception", "failed"),
        ("diverged", "failed"),
        ("oom", "failed"),
        ("timeout", "failed"),
        ("lost", "lost"),
        ("preempted", "preempted"),
    ],
)
def test_the_states_of_a_run_in_order(runs, failure, state):
    signature = CONFIG.signature
    seen = [runs.state(signature).state]
    lease = claim(runs.folder(signature), done=lambda: False)
    seen.append(runs.state(signature).state)
    lease.end(failure, "the loss is nan at step 4")
    ended = runs.state(signature)
    assert (ended.failure, ended.message) == (failure, "the loss is nan at step 4")
    runs.write(RECORD)
    seen += [ended.state, runs.state(signature).state]
    assert seen == ["missing", "running", state, "done"]


def test_a_run_of_another_host_is_lost_when_it_is_silent(runs):
    claim(runs.folder(CONFIG.signature), done=lambda: False).close()
    beat = move_to_another_host(runs.folder(CONFIG.signature), age=None)
    assert runs.state(CONFIG.signature, now=beat + 119).state == "running"
    assert runs.state(CONFIG.signature, now=beat + 121).state == "lost"
    assert runs.state(CONFIG.signature, now=beat + 6, stale_seconds=5).state == "lost"


def test_a_run_whose_process_is_gone_is_lost_at_once(runs):
    program = "import sys; from pathlib import Path; from scaling.records import claim\n"
    program += "claim(Path(sys.argv[1]), done=lambda: False)"
    folder = runs.folder(CONFIG.signature)
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)
    state = runs.state(CONFIG.signature)
    assert (state.state, state.failure, state.attempt) == ("lost", "lost", 1)


@pytest.mark.parametrize(
    "damage",
    [
        *("", "null", "{}", '{"state": "running"}', "[1]"),
        '{"state": "ended", "failure": [1], "time": 5}',
        '{"state": "running", "time": 1e999}',
    ],
)
def test_a_damaged_attempt_counts_by_its_age(runs, damage):
    path = runs.folder(CONFIG.signature) / "attempts" / "1.json"
    path.parent.mkdir(parents=True)
    path.write_text(damage)
    now = path.stat().st_mtime
    assert runs.state(CONFIG.signature, now=now + 119).state == "running"
    assert runs.state(CONFIG.signature, now=now + 121).state == "lost"


def test_a_failure_written_from_outside_holds_until_the_next_heartbeat(runs):
    lease = claim(runs.folder(CONFIG.signature), done=lambda: False)
    runs.fail(CONFIG.signature, "killed: out of memory", "oom")
    assert runs.state(CONFIG.signature).failure == "oom"
    lease.beat()
    assert runs.state(CONFIG.signature).state == "running"
    lease.close()


def test_a_job_that_died_before_it_claimed_its_run_can_be_failed(runs):
    runs.fail(CONFIG.signature, "ImportError")
    assert runs.state(CONFIG.signature).state == "failed"


def test_a_cell_of_a_shared_training_has_the_state_of_that_training(runs):
    lease = claim(runs.folder("trajectory-0"), done=lambda: False)
    assert runs.state(CONFIG.signature, "trajectory-0").state == "running"
    assert runs.state(CONFIG.signature).state == "missing"
    runs.write(RECORD)
    assert runs.state(CONFIG.signature, "trajectory-0").state == "done"
    lease.close()
