import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.config import SuanOptions
from models.grades import Grade
from models.suan import build_suan
from scaling.cli import main
from scaling.config import RunConfig
from scaling.errors import UserError
from scaling.saved_model import save_model
from scaling.serving import bench_serving, random_candidates, random_history, ways_to_score
from scaling.serving_report import WAYS, read_serving, write_serving

GRADE = Grade(2, 2, 4, 12)
LIGHT = SuanOptions(kind="lightsuan", window=3, dilation=4)


@pytest.fixture
def run_folder(tiny_store, tmp_path):
    folder = tmp_path / "runs" / "study" / "0123456789abcdef"
    keep(tiny_store, folder, LIGHT)
    return folder


def keep(store, folder, options):
    model = build_suan(GRADE, options, store.schema, base_rate=0.3, seed=0)
    config = RunConfig(
        "own", GRADE, options, 64, 0, 16, 0.01, "decay", "independent", store.fingerprint, 2
    )
    save_model(folder, model, config, store.schema)


@pytest.mark.parametrize("options", [SuanOptions(), replace(LIGHT, pooling="running")], ids=str)
def test_all_ways_give_the_same_scores(tiny_store, options):
    """To 1e-5, float32."""
    rng = np.random.default_rng(3)
    model = build_suan(GRADE, options, tiny_store.schema, base_rate=0.3, seed=0).eval()
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
    kept = read_serving(run_folder)
    assert kept is not None
    assert json.loads((run_folder / "serving.json").read_text()) == document
    pairs = [(latency.way, latency.n_candidates) for latency in kept.latencies]
    assert pairs == [(way, n) for n in (1, 3) for way in WAYS]
    assert all(0 < one.p50_ms <= one.p95_ms <= one.p99_ms for one in kept.latencies)


def test_a_study_is_all_its_runs(run_folder, tiny_store, capsys):
    keep(tiny_store, run_folder.with_name("f" * 16), SuanOptions(pooling="all"))
    for folder in run_folder.parent.iterdir():
        (folder / "record.json").write_text("{}")
    with pytest.raises(SystemExit) as exited:
        main(["serve-bench", str(run_folder.parent), "--candidates", "2", "--seconds", "0"])
    assert exited.value.code == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    # of a mean over the candidate no history can be shared
    assert [line.split()[0][0] for line in lines] == ["0"] * 4 + ["f"] * 2


def test_a_run_without_a_model_is_told(tmp_path, capsys):
    for arguments, told in (
        ([str(tmp_path)], "no such file; a run keeps its model"),
        ([str(tmp_path / "no")], "no such folder"),
        ([str(tmp_path), "--candidates", "1,x"], "--candidates 1,x: expected positive whole"),
    ):
        with pytest.raises(SystemExit) as exited:
            main(["serve-bench", *arguments])
        assert exited.value.code == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1


def test_a_damaged_report_is_told(run_folder):
    write_serving(run_folder, bench_serving(run_folder, [1], seconds=0.0))
    path = run_folder / "serving.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(UserError, match=r"serving.json: not a JSON file.*measure again"):
        read_serving(run_folder)
