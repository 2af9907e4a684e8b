"""The guess of a cell's time agrees with measured steps and follows what a pass computes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.grades import GRADES, Grade
from models.model_options import SuanOptions
from scaling.store import LogShape
from scaling.study import DataFacts, RunConfig
from scaling.synthetic import SyntheticConfig, expected_shape, synthetic_schema
from sweeps.planning.guessed_cost import GpuSpeed, evaluation_seconds, training_seconds
from sweeps.planning.machine_speed import REFERENCE, MachineSpeed, measure_machine

MEASURED = json.loads(
    (Path(__file__).parents[2] / "benchmarks" / "results" / "plan_guess.json").read_text()
)
LOG = SyntheticConfig(n_train=65_536, n_test=2_048)
SHAPE = LogShape({"min": 0.0, "p50": 100.0, "max": 400.0}, 8.0, 8.0, 130.0)


def config_of(grade="SUAN-2", packing="none", batch=64, **fields):
    values = {
        "grade_name": "one",
        "grade": GRADES[grade] if isinstance(grade, str) else grade,
        "model": SuanOptions(),
        "n_samples": LOG.n_train,
        "seed": 0,
        "batch_size": batch,
        "learning_rate": 1e-3,
        "schedule": "decay",
        "data_order": "independent",
        "data_fingerprint": "",
        "warmup_steps": 1,
        "packing": packing,
    }
    return RunConfig(**values | fields)


def facts(shape=SHAPE, n_test=LOG.n_test):
    return DataFacts(Path("log"), synthetic_schema(LOG), LOG.n_train, n_test, None, shape)


def seconds(shape=SHAPE, speed=REFERENCE, n_samples=LOG.n_train, **config):
    return training_seconds(config_of(**config), facts(shape), speed, n_samples)


@pytest.mark.parametrize("row", MEASURED["steps"], ids=lambda r: f"{r['grade']} {r['packing']}")
def test_the_guess_is_within_a_factor_of_two_of_every_measured_step(row):
    shape = LogShape(**MEASURED["shapes"][row["log"]])
    config = config_of(Grade(**row["model"]), row["packing"], row["batch"])
    guess = training_seconds(config, facts(shape), REFERENCE, LOG.n_train) / config.n_steps
    assert 0.5 <= 1e3 * guess / row["cpu_ms"] <= 2
    if "evaluation_us" in row:
        guess = evaluation_seconds(config, facts(shape), REFERENCE) / LOG.n_test
        assert 0.5 <= 1e6 * guess / row["evaluation_us"] <= 2


def test_impressions_that_share_a_pass_cost_less():
    one = replace(SHAPE, per_request=1.0)
    big = {"grade": "SUAN-5", "batch": 256}
    assert seconds(packing="request", **big) < seconds(**big) / 4
    assert seconds(one, packing="request", **big) > 0.9 * seconds(one, **big)


def test_short_histories_cost_less():
    short = replace(SHAPE, history_quantiles={"min": 0.0, "max": 20.0})
    assert seconds(short, grade="SUAN-5") < seconds(grade="SUAN-5") / 3


def test_without_a_known_log_histories_are_full():
    full = LogShape({"min": 1e6, "max": 1e6})
    assert seconds(LogShape()) == pytest.approx(seconds(full))


def test_a_machine_of_half_the_speed_takes_twice_as_long():
    slow = MachineSpeed(
        *(
            2 * one
            for one in (REFERENCE.call_seconds, REFERENCE.exp_seconds, REFERENCE.flop_seconds)
        )
    )
    assert seconds(speed=slow) == pytest.approx(2 * seconds())


def test_a_growing_batch_costs_as_its_phases_do():
    """Half of the impressions in steps of 16 cost more than half of the time."""
    grown = {"batch": 256, "batch_schedule": "growing", "grade": "SUAN-0"}
    first = seconds(n_samples=LOG.n_train // 8, **grown)
    assert seconds(**grown) < 4 * first
    assert seconds(**grown) > seconds(batch=256, grade="SUAN-0")


def test_evaluation_is_not_packed():
    alone, packed = config_of(), config_of(packing="request")
    assert evaluation_seconds(alone, facts(), REFERENCE) == evaluation_seconds(
        packed, facts(), REFERENCE
    )


def test_a_gpu_needs_its_fixed_time_for_every_step():
    assert seconds(speed=GpuSpeed()) > 0.01 * config_of().n_steps


def test_a_machine_has_three_positive_speeds_and_is_measured_once():
    speed = measure_machine()
    assert min(speed.call_seconds, speed.exp_seconds, speed.flop_seconds) > 0
    assert measure_machine() is speed


def test_the_expected_log_is_about_the_generated_one():
    """Otherwise a plan changes when its data are generated; measured logs are in the benchmark's result."""
    for name, log in (("long", LOG), ("short", replace(LOG, warmup_events=8))):
        expected, real = expected_shape(log), LogShape(**MEASURED["shapes"][name])
        for max_len in (8, 32, 200):
            ratio = expected.mean_history(max_len) / real.mean_history(max_len)
            assert 0.85 < ratio < 1.2
            stretch = expected.impressions_per_stretch(max_len)
            assert 0.7 < stretch / real.impressions_per_stretch(max_len) < 1.4
        assert expected.per_request == pytest.approx(real.per_request, rel=0.05)
