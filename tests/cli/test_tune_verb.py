"""`scaling tune`: what it writes, when it refuses, and that a second call changes nothing."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from scaling.cli.app import main
from scaling.cli.sweep import tune_verb
from scaling.cli.sweep.rate_table import Scanned
from scaling.cli.sweep.scan_training import ScanRequest
from scaling.study import load_study


@pytest.fixture
def tune(study_file, capsys):
    def call(*options, code=0):
        with pytest.raises(SystemExit) as stop:
            main(["tune", str(study_file), *map(str, options)])
        out, err = capsys.readouterr()
        assert stop.value.code == code, err
        return out, err

    return call


@pytest.fixture
def planted(study_file, monkeypatch):
    """Scans of three widths that are as good as trained: the best rate is a third of the recipe's, and falls less with the width."""
    study_file.write_text(study_file.read_text().replace('"SUAN-1"', '"SUAN-2", "SUAN-5"'))

    def train(scan, *_, **__):
        losses = {
            corner: {
                f: 0.5 + 0.01 * math.log(3 * f * (6 / corner.token_width) ** 0.8) ** 2
                for f in (0.125, *scan.factors)
            }
            for corner in scan.corners
        }
        return Scanned(losses, 5 * len(losses), 0, 60.0, "soft_logloss")

    monkeypatch.setattr(tune_verb, "train_scan", train)


WIDTHS = ("--grades", "SUAN-0,SUAN-2,SUAN-5")


def test_the_law_is_written_once(study_file, planted, tune):
    before = study_file.read_text()
    out, err = tune(*WIDTHS)
    after = study_file.read_text()
    assert after.startswith(before)
    assert "+[train.rate_law]  # fitted by `scaling tune`" in out
    assert "[train.rate_law] written" in err
    law = load_study(study_file).train.rate_law
    assert law.width_exponent == pytest.approx(0.8, abs=0.05)  # beyond that of the recipe
    assert law.learning_rate is None
    _, err = tune(*WIDTHS)
    assert study_file.read_text() == after
    assert "not changed, it has this law already" in err


def test_the_law_makes_the_largest_cost_small(planted, tune):
    document = json.loads(tune(*WIDTHS, "--json")[0])
    assert document["largest_cost_so_far"] > 0.005
    assert document["largest_cost"] < 0.0005
    assert document["written"] is True
    assert all(row["half"] > 0.004 < row["twice"] for row in document["corners"])


def test_a_dry_run_shows_the_change_and_makes_none(study_file, planted, tune):
    before = study_file.read_text()
    out, err = tune("--dry-run")
    assert "+factor = " in out
    assert "not changed (--dry-run)" in err
    assert study_file.read_text() == before


def test_a_good_rule_is_kept(study_file, monkeypatch, tune):
    def train(scan, *_, **__):
        curve = {f: 0.5 + 0.002 * math.log(f) ** 2 for f in scan.factors}
        return Scanned(dict.fromkeys(scan.corners, curve), 20, 0, 60.0, "logloss")

    monkeypatch.setattr(tune_verb, "train_scan", train)
    before = study_file.read_text()
    out, err = tune()
    assert "law: rate = 1 x the recipe's (width / 6)^0 (n_samples / 320)^0" in out
    assert "the rule so far is within 0.001 of the best rate at all corners" in err
    assert study_file.read_text() == before


def test_noise_of_the_scan_does_not_replace_the_recipe(study_file, monkeypatch, tune):
    def train(scan, *_, **__):
        random = np.random.default_rng(0)
        losses = {
            corner: {
                f: 0.5 + 0.004 * math.log(f / 1.5) ** 2 + random.normal(0, 0.003)
                for f in scan.factors
            }
            for corner in scan.corners
        }
        return Scanned(losses, 20, 0, 60.0, "logloss")

    monkeypatch.setattr(tune_verb, "train_scan", train)
    before = study_file.read_text()
    _, err = tune()
    assert "not changed, no difference beyond the noise of the scan" in err
    assert study_file.read_text() == before


def test_a_law_of_an_earlier_version_is_the_rule_so_far(study_file, planted, tune):
    old = "learning_rate = 1e-4\ntoken_width = 6\nn_samples = 320\nwidth_exponent = 0.0\nsamples_exponent = 0.0\n"
    study_file.write_text(study_file.read_text() + "[train.rate_law]\n" + old)
    _, err = tune(*WIDTHS)
    assert "[train.rate_law] written" in err
    assert load_study(study_file).train.rate_law.factor is not None


def test_a_link_to_the_study_stays_a_link_and_the_file_keeps_its_mode(study_file, planted, tune):
    target = study_file.rename(study_file.with_name("target.toml"))
    target.chmod(0o640)
    study_file.symlink_to(target)
    tune()
    assert study_file.is_symlink()
    assert "rate_law" in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("[train]\nlearning_rate = 0.1\n", [], "train.learning_rate sets the rates of this study"),
        ('"train.learning_rate" = [0.1]\n', [], "grid.train.learning_rate sets the rates"),
        ("", ["--rates", "1,2"], "--rates 1,2: expected at least 3 positive multiples"),
        ("", ["--rates", "0,1,2"], "expected at least 3 positive multiples"),
        ("", ["--rates", "1e-300,1,1e300"], "from 1e-6 to 1e6"),
        ("", ["--sizes", "a"], "--sizes a: expected numbers with commas between them"),
        ("", ["--sizes", "0"], "--sizes 0: expected sizes from 1"),
        ("", ["--sizes", "1201"], "1201 is more than the 1200 training impressions"),
        ("", ["--grades", "SUAN-1,SUAN-1"], "a value is given twice"),
        ("", ["--grades", "SUAN-99"], "there is no grade SUAN-99"),
        ("", ["--budget-gpu-hours", "0"], "more than --budget-gpu-hours 0"),
    ],
)
def test_what_is_refused(study_file, tune, text, options, message):
    with study_file.open("a") as file:
        file.write(text)
    before = study_file.read_text()
    _, err = tune(*options, code=2)
    assert message in err
    assert study_file.read_text() == before
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("hours", "study_seconds", "limit"),
    [(None, 4000.0, 1000.0), (None, 40.0, 300.0), (2.0, 1.0, 7200.0)],
)
def test_a_scan_may_take_a_quarter_of_the_study_or_five_minutes_or_its_budget(
    hours, study_seconds, limit
):
    assert ScanRequest(hours=hours).limit(study_seconds) == limit


def test_a_dry_run_without_runs_says_what_it_would_train(tune):
    out, err = tune("--dry-run", "--json")
    assert json.loads(out) == {"study": "tiny", "n_runs": 20, "n_missing": 20, "written": False}
    assert "20 runs to train first; nothing was trained" in err
    assert not Path("runs").exists()


def test_a_damaged_scan_file_is_named(tune):
    Path("runs/tiny-tune").mkdir(parents=True)
    Path("runs/tiny-tune/scan.json").write_text("{")
    _, err = tune(code=2)
    assert "runs/tiny-tune/scan.json: damaged" in err


@pytest.mark.slow
def test_finished_runs_are_only_read_and_diverged_ones_count_as_infinitely_bad(tune):
    options = (
        "--grades",
        "SUAN-0",
        "--sizes",
        "160",
        "--rates",
        "1,2,1e6",
        "--cluster",
        "debug",
        "--yes",
    )
    out, err = tune(*options, "--json")
    document = json.loads(out)
    (corner,) = document["corners"]
    losses = dict(zip(corner["rates"], corner["losses"], strict=True))
    assert losses[max(losses)] is None
    assert all(0 < loss < 1 for rate, loss in losses.items() if rate < 1)
    assert document["kept"]["width_exponent"] == "the scan has one width"
    stamps = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("record.json")}
    assert len(stamps) == document["n_runs"] - 1
    again, err = tune("--json")
    assert "to train" not in err
    assert json.loads(again)["corners"] == document["corners"]
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("record.json")} == stamps
