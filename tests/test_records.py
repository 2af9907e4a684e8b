import json
import subprocess
import sys
from dataclasses import replace

import pytest

from models.config import SuanOptions
from models.grades import Grade
from scaling.config import RunConfig
from scaling.errors import UserError
from scaling.records import STALE_SECONDS, RunBusyError, RunRecord, RunStore

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


def test_all_records_come_smallest_first(runs):
    large = replace(RECORD, config=replace(CONFIG, n_samples=9999))
    for record in (large, RECORD):
        runs.write(record)
    assert runs.read_all() == [RECORD, large]


def test_a_record_in_the_wrong_folder_is_refused(runs):
    path = runs.write(RECORD)
    path.parent.rename(runs.folder("0" * 16))
    with pytest.raises(UserError, match="was the folder renamed"):
        runs.read("0" * 16)


@pytest.mark.parametrize("damage", ["", "{", '{"config": 3}'])
def test_a_damaged_record_is_told_not_used(runs, damage):
    path = runs.write(RECORD)
    path.write_text(damage)
    with pytest.raises(UserError, match=r"record\.json"):
        runs.read(CONFIG.signature)


def test_a_record_with_nan_is_not_written(runs):
    with pytest.raises(ValueError, match="not JSON compliant"):
        runs.write(replace(RECORD, metrics={"auc": float("nan")}))
    assert not list(runs.root.rglob("*"))[1:]


def test_the_states_of_a_run_in_order(runs):
    signature = CONFIG.signature
    seen = [runs.state(signature).state]
    runs.heartbeat(signature, step=3, n_steps=10, loss=0.6, samples_per_second=100.0)
    seen.append(runs.state(signature).state)
    runs.fail(signature, "the loss is nan at step 4")
    seen.append(runs.state(signature).state)
    runs.write(RECORD)
    seen.append(runs.state(signature).state)
    assert seen == ["missing", "running", "failed", "done"]


def test_a_silent_run_is_lost(runs):
    runs.heartbeat(CONFIG.signature)
    path = runs.folder(CONFIG.signature) / "status.json"
    time = json.loads(path.read_text())["time"]
    assert runs.state(CONFIG.signature, now=time + STALE_SECONDS - 1).state == "running"
    assert runs.state(CONFIG.signature, now=time + STALE_SECONDS + 1).state == "lost"


def test_a_run_whose_process_is_gone_is_lost_at_once(runs):
    signature = CONFIG.signature
    runs.heartbeat(signature)
    path = runs.folder(signature) / "status.json"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": gone.pid}))
    assert runs.state(signature).state == "lost"


@pytest.mark.parametrize("damage", ["", "null", "{}", '{"state": "running"}', "[1]"])
def test_a_damaged_status_is_a_lost_run_not_an_error(runs, damage):
    runs.heartbeat(CONFIG.signature)
    (runs.folder(CONFIG.signature) / "status.json").write_text(damage)
    assert runs.state(CONFIG.signature).state == "lost"


def test_a_claim_of_a_living_process_is_respected(runs):
    runs.claim(CONFIG.signature)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        claim = runs.folder(CONFIG.signature) / "claim"
        claim.write_text(json.dumps({**json.loads(claim.read_text()), "pid": other.pid}))
        with pytest.raises(RunBusyError, match=f"process {other.pid}"):
            runs.claim(CONFIG.signature)
    finally:
        other.kill()
        other.wait()
    runs.claim(CONFIG.signature)  # its owner is gone


def test_of_many_claims_at_once_one_succeeds(runs):
    script = (
        "import pathlib; from scaling.records import *\n"
        f"try: RunStore(pathlib.Path({str(runs.root)!r})).claim('s'); print('mine', flush=True)\n"
        "except RunBusyError: print('busy', flush=True)\n"
        "input()"  # alive until all have tried
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    claimers = [subprocess.Popen([sys.executable, "-c", script], **pipes) for _ in range(4)]
    said = [claimer.stdout.readline().strip() for claimer in claimers]
    for claimer in claimers:
        claimer.communicate("\n")
    assert sorted(said) == ["busy", "busy", "busy", "mine"]


def test_a_finished_run_leaves_neither_status_nor_claim(runs):
    runs.claim(CONFIG.signature)
    runs.write(RECORD)
    assert {path.name for path in runs.folder(CONFIG.signature).iterdir()} == {"record.json"}
