import json
import os
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from models.grades import Grade
from models.kinds.building import build_model
from models.model_options import SuanOptions
from scaling.cli.app import main
from scaling.errors import UserError
from scaling.records import MODEL_FILE, RunRecord, RunStore, TeacherRecord
from scaling.serving import (
    WAYS,
    Latency,
    merge_reports,
    read_serving,
    runs_to_measure,
    write_serving,
)
from scaling.serving.latency_bench import (
    bench_serving,
    random_candidates,
    random_history,
    ways_to_score,
)
from scaling.study import Distillation, RunConfig
from scaling.training.saved_model import save_model

GRADE = Grade(2, 2, 4, 12)
LIGHT = SuanOptions(kind="lightsuan", window=3, dilation=4)


@pytest.fixture
def run_folder(tiny_store, tmp_path):
    folder = tmp_path / "runs" / "study" / "0123456789abcdef"
    keep(tiny_store, folder, LIGHT)
    return folder


def configure(store, options=LIGHT, **change):
    config = RunConfig(
        "own", GRADE, options, 64, 0, 16, 0.01, "decay", "independent", store.fingerprint, 2
    )
    return replace(config, **change)


def keep(store, folder, options):
    model = build_model(GRADE, options, store.schema, base_rate=0.3, seed=0)
    save_model(folder, model, configure(store, options), store.schema)


@pytest.fixture
def finish(tiny_store, tmp_path):
    """Add a finished run to the study `tmp_path / "study"`; its folder."""
    runs = RunStore(tmp_path / "study")

    def add(*, model=LIGHT, model_file=True, **change):
        config = configure(tiny_store, model, **change)
        folder = runs.folder(config.signature)
        if model_file:
            keep(tiny_store, folder, config.model)
        taught = TeacherRecord(1, 1, 1, {}, 64, 0) if config.distill is not None else None
        runs.write(RunRecord(config, 1, 1, 1, 1, {}, 0.5, 1.0, 1.0, 1.0, {}, taught))
        return folder

    return add


def bench(capsys, *arguments):
    """The exit code, and what was printed to stdout and stderr."""
    with pytest.raises(SystemExit) as exited:
        main(["serve-bench", *map(str, arguments)])
    captured = capsys.readouterr()
    return exited.value.code, captured.out.splitlines(), captured.err


QUICK = ("--candidates", "2", "--seconds", "0")


@pytest.mark.parametrize("options", [SuanOptions(), replace(LIGHT, pooling="running")], ids=str)
def test_all_ways_give_the_same_scores(tiny_store, options):
    """To 1e-5, float32."""
    rng = np.random.default_rng(3)
    model = build_model(GRADE, options, tiny_store.schema, base_rate=0.3, seed=0).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    history = random_history(tiny_store.schema, GRADE.max_len, rng)
    request = random_candidates(tiny_store.schema, 7, int(history.times[-1]) + 60, rng)
    ways = ways_to_score(model, tiny_store.schema, history)
    scores = {way: np.asarray(score(history, request)) for way, score in ways.items()}
    assert list(scores) == list(WAYS)
    assert np.ptp(scores["single"]) > 1e-3
    for way in WAYS:
        assert np.abs(scores[way] - scores["single"]).max() < 1e-5


def test_the_report_is_kept_beside_the_run(run_folder, capsys):
    arguments = ["serve-bench", run_folder, "--candidates", "1,3", "--seconds", "0", "--json"]
    with pytest.raises(SystemExit) as exited:
        main([str(argument) for argument in arguments])
    assert exited.value.code == 0
    (document,) = json.loads(capsys.readouterr().out)
    saved = read_serving(run_folder)
    assert saved is not None
    assert json.loads((run_folder / "serving.json").read_text()) == document
    pairs = [(latency.way, latency.n_candidates) for latency in saved.latencies]
    assert pairs == [(way, n) for n in (1, 3) for way in WAYS]
    assert all(0 < one.p50_ms <= one.p95_ms <= one.p99_ms for one in saved.latencies)


def test_of_a_study_the_first_seed_of_each_model_is_measured(finish, capsys, tmp_path):
    for n_samples in (64, 128):
        for seed in (1, 0, 2):
            finish(n_samples=n_samples, seed=seed)
    finish(model=SuanOptions(pooling="all"))
    code, lines, error = bench(capsys, tmp_path / "study", *QUICK)
    assert code == 0
    rows = [tuple(re.split(" {2,}", line)[1:5]) for line in lines[1:]]
    # with a mean over the candidate, histories cannot be shared
    assert sorted(rows) == sorted(
        [("LightSUAN own, pooling behaviours", "64", "0", way) for way in WAYS]
        + [("LightSUAN own", "128", "0", way) for way in WAYS]
        + [("own, pooling all", "64", "0", way) for way in ("single", "repeated")]
    )
    assert "one seed of each model and data size, 3 of 7 runs" in error


def test_models_of_several_windows_have_names_of_their_own(finish, capsys, tmp_path):
    for window in (2, 8):
        finish(model=replace(LIGHT, window=window))
    _, lines, _ = bench(capsys, tmp_path / "study", *QUICK)
    assert {re.split(" {2,}", line)[1] for line in lines[1:]} == {
        "LightSUAN own, window 2",
        "LightSUAN own, window 8",
    }


def test_a_named_run_is_measured_whatever_its_seed(finish, capsys):
    folder = finish(seed=3)
    code, lines, _ = bench(capsys, folder, *QUICK)
    assert code == 0
    rows = {tuple(re.split(" {2,}", line)[:4]) for line in lines[1:]}
    assert rows == {(folder.name, "LightSUAN own", "64", "3")}


def test_a_run_has_the_same_name_alone_and_in_its_study(finish, tmp_path):
    folders = [finish(model=replace(LIGHT, window=window)) for window in (2, 8)]
    alone = [one.model for one in runs_to_measure(folders)]
    assert alone == ["LightSUAN own, window 2", "LightSUAN own, window 8"]
    assert sorted(alone) == sorted(one.model for one in runs_to_measure([tmp_path / "study"]))


def test_runs_of_different_teachers_are_different_models(finish, capsys, tmp_path):
    """Each seed has its own run of the teacher, which does not make another model."""
    cold = Distillation("SUAN-1", GRADE, LIGHT, 0.01, 1.0, 1.0, False)
    for seed in (0, 1):
        for taught in (cold, replace(cold, learning_rate=None, teacher_init=f"{seed}" * 16)):
            finish(seed=seed, distill=taught)
    code, lines, _ = bench(capsys, tmp_path / "study", *QUICK)
    assert code == 0
    models = {re.split(" {2,}", line)[1] for line in lines[1:]}
    assert models == {"distilled LightSUAN own, cold", "distilled LightSUAN own, frozen"}
    assert len(lines) == 1 + 2 * len(WAYS)


@pytest.mark.slow
def test_the_duration_is_logged_first_and_then_each_model(finish, capsys, tmp_path):
    finish(n_samples=64), finish(n_samples=128)
    _, _, error = bench(capsys, tmp_path / "study", "--candidates", "1,2", "--seconds", "0.1")
    before, first, second = error.splitlines()[:3]
    assert before == "measuring 2 models: at least 0:02"
    assert first.startswith("1/2 ")
    assert "LightSUAN own D=64 s0: parallel, 2 candidates: p99 " in first
    assert first.endswith("to go")
    assert second.startswith("2/2 ")


def test_another_seed_is_measured_if_the_first_has_no_model_file(finish, capsys, tmp_path):
    finish(seed=0, model_file=False)
    folder = finish(seed=1)
    code, lines, _ = bench(capsys, tmp_path / "study", *QUICK)
    assert code == 0
    assert {line.split()[0] for line in lines[1:]} == {folder.name}


def test_runs_without_a_model_are_left_out(finish, capsys, tmp_path):
    gone = finish(n_samples=32, model_file=False)
    damaged = finish(n_samples=64)
    (damaged / MODEL_FILE).write_bytes(b"no model")
    good = finish(n_samples=128)
    code, lines, error = bench(capsys, tmp_path / "study", *QUICK)
    assert code == 0
    assert {line.split()[0] for line in lines[1:]} == {good.name}
    lines = error.splitlines()
    assert lines[0].startswith("left out without a model.safetensors ([run] keep_model = false?)")
    assert gone.name in lines[0]
    assert any(f"{damaged.name} LightSUAN own D=64 s0 left out: " in line for line in lines)


def test_a_study_without_any_model_is_an_error(finish, capsys, tmp_path):
    finish(n_samples=32, model_file=False), finish(n_samples=64, model_file=False)
    code, _, error = bench(capsys, tmp_path / "study", *QUICK)
    assert code == 2
    assert "no such file, nor in 1 other run; a run saves its model when it is done" in error
    assert error.count("\n") == 1


def test_only_damaged_models_are_an_error(finish, capsys, tmp_path):
    for n_samples in (32, 64):
        (finish(n_samples=n_samples) / MODEL_FILE).write_bytes(b"no model")
    code, _, error = bench(capsys, tmp_path / "study", *QUICK)
    assert code == 2
    assert error.splitlines()[-1] == "error: none of 2 models could be measured; see above"


def test_a_damaged_record_leaves_its_run_out(finish, capsys, tmp_path):
    (finish(seed=0) / "record.json").write_text("{}")
    good = finish(n_samples=128)
    code, lines, error = bench(capsys, tmp_path / "study", *QUICK)
    assert code == 0
    assert {line.split()[0] for line in lines[1:]} == {good.name}
    assert "record.json: config: missing" in error


def test_too_few_requests_are_reported_with_the_time_that_is_enough(run_folder, capsys):
    _, lines, error = bench(capsys, run_folder, *QUICK)
    (message,) = [line for line in error.splitlines() if "fewer than" in line]
    rates = [float(line.split()[-1].replace(",", "")) for line in lines[1:]]
    seconds = int(np.ceil(100 * 2 / min(rates)))
    assert message.startswith("4 of 4 latencies come from fewer than 100 requests")
    assert f"--seconds {seconds} is enough" in message


def test_enough_requests_give_no_warning(run_folder, capsys, monkeypatch):
    monkeypatch.setattr("scaling.serving.ENOUGH_REQUESTS", 3)
    _, _, error = bench(capsys, run_folder, *QUICK)
    assert "fewer than" not in error


@pytest.fixture
def report(run_folder):
    return bench_serving(run_folder, [1, 10], seconds=0.0)


def test_a_later_measurement_keeps_other_numbers_of_candidates(run_folder, report, capsys):
    write_serving(run_folder, report)
    code, lines, error = bench(capsys, run_folder, "--candidates", "1,5", "--seconds", "0")
    assert (code, len(lines)) == (0, 1 + 8)
    saved = read_serving(run_folder).latencies
    assert [one.n_candidates for one in saved] == [1] * 4 + [5] * 4 + [10] * 4
    assert [asdict(one) for one in saved[8:]] == [asdict(one) for one in report.latencies[4:]]
    assert saved[0] != report.latencies[0]
    assert "replaced" not in error


def test_a_measurement_with_other_threads_replaces_the_earlier(run_folder, report, capsys):
    write_serving(run_folder, replace(report, n_threads=report.n_threads + 1))
    _, _, error = bench(capsys, run_folder, *QUICK)
    assert [one.n_candidates for one in read_serving(run_folder).latencies] == [2] * 4
    assert "earlier latencies of 1 run were replaced: measured with other threads" in error


def test_only_the_command_may_differ_between_merged_reports(report):
    for key, alike in (("command", True), ("platform", False), ("processor", False)):
        other = replace(report, environment={**report.environment, key: "another"})
        assert (merge_reports(other, report) is not None) == alike
    merged = merge_reports(replace(report, environment={**report.environment}), report)
    assert merged == report


def test_a_damaged_report_is_replaced(run_folder, capsys):
    (run_folder / "serving.json").write_text("{")
    code, _, _ = bench(capsys, run_folder, *QUICK)
    assert code == 0
    assert len(read_serving(run_folder).latencies) == 4


def test_enough_seconds_allow_a_hundred_requests():
    """40 candidates in requests of 10 within 2 seconds: half a second each."""
    latency = Latency("single", 10, 4, 500.0, 500.0, 500.0, 500.0, 40 / 2)
    assert latency.enough_seconds == 50.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threads", "100000"), "--threads 100000: this process may use {} core"),
        (("--seconds", "inf"), "--seconds inf: expected at most 3600"),
        (("--seconds", "1e300"), "--seconds 1e+300: expected at most 3600"),
        (("--candidates", "1,1000000000000"), "expected whole numbers from 1 to 100,000"),
        (("--candidates", "1" * 5000), "expected whole numbers from 1 to 100,000"),
    ],
)
def test_impossible_settings_are_refused_before_any_measurement(
    run_folder, capsys, arguments, message
):
    code, _, error = bench(capsys, run_folder, *arguments)
    assert code == 2
    assert message.format(len(os.sched_getaffinity(0))) in error
    assert error.count("\n") == 1


def test_a_run_without_a_model_is_an_error(tmp_path, capsys):
    for arguments, message in (
        ([str(tmp_path)], "no such file; a run saves its model"),
        ([str(tmp_path / "no")], "no such folder"),
        ([str(tmp_path / "s.toml")], "a study file; give the folder of its runs"),
        ([str(tmp_path), "--candidates", "1,x"], "--candidates 1,x: expected whole"),
    ):
        with pytest.raises(SystemExit) as exited:
            main(["serve-bench", *arguments])
        assert exited.value.code == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_a_damaged_report_is_an_error(run_folder):
    write_serving(run_folder, bench_serving(run_folder, [1], seconds=0.0))
    path = run_folder / "serving.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(UserError, match=r"serving.json: not a JSON file.*measure again"):
        read_serving(run_folder)
