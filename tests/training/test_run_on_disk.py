"""A run on disk: it writes a record, and the same one wherever it was stopped."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import numbers, small_config

import scaling.training.run_on_disk
from models.model_options import EncoderOptions, SuanOptions
from scaling.errors import UserError
from scaling.records import LeaseLostError, RunStore, claim
from scaling.records.attempts import close_attempt, last_attempt
from scaling.study import RunOptions
from scaling.training import PreemptedError, train_run
from scaling.training.loop import NonFiniteLossError

OPTIONS = RunOptions()


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def config(tiny_store):
    return small_config(tiny_store)


def test_a_run_leaves_a_record_and_its_metrics_lines(config, tiny_store, tmp_path):
    runs = RunStore(tmp_path)
    record = train_run(config, tiny_store, runs)
    assert runs.read(config.signature) == record
    lines = (runs.folder(config.signature) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 21))
    assert record.metrics["excess_logloss"] > 0
    assert record.flops == 3 * record.flops_per_sample * 320
    assert record.provenance["truth"] == tiny_store.truth
    mean = np.mean([json.loads(line)["loss"] for line in lines])
    assert record.train_loss == pytest.approx(mean, rel=1e-6)


def test_a_record_holds_the_digests_of_the_files_beside_it(config, tiny_store, tmp_path):
    runs = RunStore(tmp_path)
    record = train_run(config, tiny_store, runs)
    files = [
        runs.folder(config.signature) / name for name in ("metrics.jsonl", "model.safetensors")
    ]
    assert record.files == {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_a_finished_run_is_only_read(config, tiny_store, tmp_path, monkeypatch):
    runs = RunStore(tmp_path)
    record = train_run(config, tiny_store, runs)
    monkeypatch.setattr(scaling.training.run_on_disk, "Training", None)
    assert train_run(config, tiny_store, runs) == record


def test_a_diverged_run_is_failed_and_names_the_step(config, tiny_store, tmp_path):
    runs = RunStore(tmp_path)
    wild = replace(config, learning_rate=1e30)
    with pytest.raises(NonFiniteLossError, match=r"the loss is (nan|inf) at step \d+"):
        train_run(wild, tiny_store, runs)
    state = runs.state(wild.signature)
    assert (state.state, state.failure) == ("failed", "diverged")
    assert "at step" in state.message
    assert not runs.has(wild.signature)


def test_a_run_planned_for_other_data_is_refused(config, tiny_store, tmp_path):
    with pytest.raises(UserError, match="plan again, or restore the data"):
        train_run(replace(config, data_fingerprint="0" * 64), tiny_store, RunStore(tmp_path))


def test_more_samples_than_there_are_is_refused(config, tiny_store, tmp_path):
    with pytest.raises(UserError, match="1200 training impressions"):
        train_run(replace(config, n_samples=1201), tiny_store, RunStore(tmp_path))


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code catches it, or saves because of it."""


def lines(runs, signature):
    text = (runs.folder(signature) / "metrics.jsonl").read_text()
    parsed = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in line.items() if k != "samples_per_second"} for line in parsed]


def train_through_kills(config, store, runs, kills, saves):
    """Train, killed before the steps `kills` in turn, with checkpoints after the steps `saves`."""
    kills = list(kills)
    train_step, due = (
        scaling.training.run_on_disk.Training._train_step,
        scaling.training.run_on_disk._Saver.is_due,
    )

    def step_or_die(training, *arguments):
        if kills and training.step == kills[0]:
            kills.pop(0)
            raise Killed
        return train_step(training, *arguments)

    def is_due(saver):
        return due.fget(saver) or saver._training.step in saves

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling.training.run_on_disk.Training, "_train_step", step_or_die)
        patch.setattr(scaling.training.run_on_disk._Saver, "is_due", property(is_due))
        while True:
            try:
                return train_run(config, store, runs)
            except Killed:
                log = runs.folder(config.signature) / "metrics.jsonl"
                with log.open("a") as file:
                    file.write('{"step": 7, "lo')  # a torn line


VARIANTS = {
    "single": {},
    "constant": {"schedule": "constant"},
    "request": {"packing": "request"},
    "din": {"model": EncoderOptions("din", {"activation": "dice", "softmax": False})},
    "stretch": {
        "packing": "stretch",
        "model": SuanOptions(pooling="running", positions="start", dropout=0.1),
        "batch_size": 2,
        "n_samples": 60,
    },
}


@pytest.fixture(scope="module")
def undisturbed(tiny_store, tmp_path_factory):
    """The record and the lines of each variant, trained in one go."""
    torch.set_num_threads(1)
    results = {}
    for name, changes in VARIANTS.items():
        runs = RunStore(tmp_path_factory.mktemp(name))
        config = small_config(tiny_store, **changes)
        record = train_run(config, tiny_store, runs)
        results[name] = numbers(record), lines(runs, config.signature)
    return results


@pytest.mark.slow
@settings(max_examples=8)
@given(
    variant=st.sampled_from(sorted(VARIANTS)),
    kills=st.lists(st.integers(0, 19), max_size=4),
    saves=st.sets(st.integers(1, 20), max_size=8),
)
def test_a_run_killed_anywhere_ends_with_the_same_record(
    tiny_store, tmp_path_factory, undisturbed, variant, kills, saves
):
    runs = RunStore(tmp_path_factory.mktemp("killed"))
    config = small_config(tiny_store, **VARIANTS[variant])
    record = train_through_kills(config, tiny_store, runs, kills, saves)
    assert (numbers(record), lines(runs, config.signature)) == undisturbed[variant]


def test_resuming_reads_no_step_before_the_checkpoint(config, tiny_store, tmp_path, monkeypatch):
    gathered = []
    original = scaling.batches.gather.gather_batch

    def spy(store, rows, max_len):
        gathered.extend(rows.tolist())
        return original(store, rows, max_len)

    monkeypatch.setattr(scaling.batches.gather, "gather_batch", spy)
    train_through_kills(config, tiny_store, RunStore(tmp_path), [15], {15})
    trained = [row for row in gathered if row < tiny_store.n_train]
    assert len(trained) == 16 * 20 + 16  # the batch of the step that was killed is read twice


def test_a_damaged_checkpoint_costs_steps_but_not_the_result(
    config, tiny_store, tmp_path, undisturbed
):
    runs = RunStore(tmp_path)
    with pytest.raises(PreemptedError):
        train_run(config, tiny_store, runs, stop=stop_after(13), options=every_step())
    latest = max((runs.folder(config.signature) / "checkpoints").iterdir())
    latest.write_bytes(latest.read_bytes()[:-1])
    record = train_run(config, tiny_store, runs)
    assert [a["first_step"] for a in record.provenance["attempts"]] == [0, 12]
    assert numbers(record) == undisturbed["single"][0]


def every_step():
    return RunOptions(checkpoint_seconds=1e-9)


@pytest.fixture(autouse=True)
def _cheap_checkpoints(monkeypatch):
    """Let a period be as short as a test wants it."""
    monkeypatch.setattr(scaling.training.run_on_disk, "_CHECKPOINT_SHARE", 1e9)


def stop_after(n_steps):
    """Ask to stop at the end of step `n_steps`."""
    asked = iter([None] * (n_steps - 1) + ["signal 12"])
    return lambda: next(asked)


@pytest.mark.parametrize("step", [1, 12, 20, 21])
def test_a_run_that_is_asked_to_stop_is_saved_and_goes_on(
    config, tiny_store, tmp_path, undisturbed, step
):
    """Step 20 is the last, 21 falls into the evaluation."""
    runs = RunStore(tmp_path)
    with pytest.raises(PreemptedError, match=f"signal 12, saved at step {min(step, 20)}"):
        train_run(config, tiny_store, runs, stop=stop_after(step))
    state = runs.state(config.signature)
    assert (state.state, state.failure) == ("preempted", "preempted")
    record = train_run(config, tiny_store, runs)
    assert [a["first_step"] for a in record.provenance["attempts"]] == [0, min(step, 20)]
    assert (numbers(record), lines(runs, config.signature)) == undisturbed["single"]


def test_a_record_tells_of_every_attempt(config, tiny_store, tmp_path, monkeypatch):
    runs = RunStore(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(PreemptedError):
        train_run(config, tiny_store, runs, stop=stop_after(3))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    attempts = train_run(config, tiny_store, runs).provenance["attempts"]
    assert [a["number"] for a in attempts] == [1, 2]
    assert [a["failure"] for a in attempts] == ["preempted", None]
    assert [a["slurm_restart_count"] for a in attempts] == [0, 1]
    wanted = {"git_commit", "git_diff", "code", "versions", "host", "device", "started", "ended"}
    assert all(wanted <= set(a) for a in attempts)


def test_training_seconds_add_up_over_attempts(config, tiny_store, tmp_path):
    runs = RunStore(tmp_path)
    with pytest.raises(PreemptedError):
        train_run(config, tiny_store, runs, stop=stop_after(19))
    first = json.loads(
        (runs.folder(config.signature) / "metrics.jsonl").read_text().splitlines()[-1]
    )
    record = train_run(config, tiny_store, runs)
    assert record.train_seconds > first["n_samples"] / first["samples_per_second"]


@pytest.mark.parametrize("changed", ["code", "torch", "numpy"])
def test_a_checkpoint_of_other_code_is_refused_unless_forced(
    config, tiny_store, tmp_path, monkeypatch, changed
):
    runs = RunStore(tmp_path)
    with pytest.raises(PreemptedError):
        train_run(config, tiny_store, runs, stop=stop_after(5))
    known = scaling.records.lease.describe_attempt()
    other = {**known, "code": "new"} if changed == "code" else {
        **known, "versions": {**known["versions"], changed: "9.9"}
    }  # fmt: skip
    monkeypatch.setattr(scaling.records.lease, "describe_attempt", lambda: other)
    with pytest.raises(UserError, match=rf"{changed} .* is now .*resume anyway with force_resume"):
        train_run(config, tiny_store, runs)
    assert runs.state(config.signature).failure == "exception"
    record = train_run(config, tiny_store, runs, force_resume=True)
    assert record.provenance["attempts"][-1]["first_step"] == 5


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 TB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=str,
)
def test_memory_that_runs_out_is_its_own_class_of_failure(
    config, tiny_store, tmp_path, monkeypatch, error
):
    def exhausted(*_):
        raise error

    monkeypatch.setattr(scaling.training.run_on_disk.Training, "_train_step", exhausted)
    runs = RunStore(tmp_path)
    with pytest.raises(RuntimeError):
        train_run(config, tiny_store, runs)
    assert runs.state(config.signature).failure == "oom"


def test_a_process_that_was_replaced_writes_nothing_more(config, tiny_store, tmp_path, undisturbed):
    """Both go on for a while, as after the failure of a node; one record comes out, the usual one."""
    runs = RunStore(tmp_path)
    folder = runs.folder(config.signature)

    successors = []

    def replaced():
        close_attempt(folder, "lost", "the node does not answer")
        if not successors:
            successors.append(claim(folder, done=lambda: False))

    with pytest.raises(LeaseLostError):
        train_run(config, tiny_store, runs, stop=replaced)
    assert not runs.has(config.signature)
    assert last_attempt(folder)[1]["state"] == "running"
    record = train_run(config, tiny_store, runs, lease=successors[0])
    assert numbers(record) == undisturbed["single"][0]


def test_a_finished_run_leaves_no_attempts_and_no_checkpoints(config, tiny_store, tmp_path):
    runs = RunStore(tmp_path)
    train_run(config, tiny_store, runs, options=every_step())
    assert {path.name for path in runs.folder(config.signature).iterdir()} == {
        "config.json", "metrics.jsonl", "model.safetensors", "record.json",
    }  # fmt: skip
