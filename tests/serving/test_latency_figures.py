"""The figures of a measurement, from requests whose times are known."""

from types import SimpleNamespace

import numpy as np
import pytest

import scaling.serving.latency_bench
from scaling.serving.latency_bench import _measure

# the first two are the warm-up
SECONDS = [7.0, 8.0, *np.random.default_rng(0).permutation(np.arange(1, 201)) / 1000]


@pytest.fixture
def latency(monkeypatch):
    """The latency of requests for 30 candidates that take `SECONDS`, half of which the processor computes."""
    clock = SimpleNamespace(now=0.0)
    clock.perf_counter, clock.process_time = lambda: clock.now, lambda: clock.now / 2
    monkeypatch.setattr(scaling.serving.latency_bench, "time", clock)
    left = iter(SECONDS)

    def request():
        clock.now += next(left)

    return _measure("single", 30, request, sum(SECONDS[2:]) - 1e-6)


def test_the_first_requests_are_not_measured(latency):
    assert latency.n_requests == 200


def test_percentiles_are_those_of_the_requests_in_milliseconds(latency):
    found = (latency.p50_ms, latency.p95_ms, latency.p99_ms)
    assert found == pytest.approx(1000 * np.percentile(SECONDS[2:], [50, 95, 99]))


def test_the_rate_is_in_candidates_per_second(latency):
    assert latency.candidates_per_second == pytest.approx(30 * 200 / sum(SECONDS[2:]))


def test_the_time_of_the_processor_is_its_median(latency):
    assert latency.cpu_ms == pytest.approx(1000 * np.median(SECONDS[2:]) / 2)
