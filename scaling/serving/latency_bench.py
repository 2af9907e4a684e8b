"""Measure how long a trained model takes to score the candidates of a request, in four ways."""

import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.ctr_model import Batch, CTRModel
from models.scoring import (
    CandidateRows,
    Candidates,
    History,
    Scorer,
    UserRows,
    read_candidates,
    read_history,
)
from scaling.records import describe_environment
from scaling.serving.latency_report import Latency, ServingReport
from scaling.store import WEIGHTS, Feature, Schema
from scaling.training import read_model

__all__ = ["bench_serving", "random_candidates", "random_history", "ways_to_score"]


# Requests before the measurement, and the minimum number of measured requests.
_WARM_UP, _FEWEST = 2, 3

Score = Callable[[History, Candidates], object]


def bench_serving(
    run_folder: Path, candidates: Sequence[int], *, n_threads: int = 1, seconds: float = 2.0
) -> ServingReport:
    """Measure a finished run's model on a user with a full history and random ids, on the CPU.

    Args:
        run_folder: the run's folder.
        candidates: numbers of candidates per request; each is measured.
        n_threads: threads per request.
        seconds: per way and number of candidates; at least three requests are made.

    Raises:
        UserError: the folder holds no model.
    """
    model, schema = read_model(run_folder)
    torch.set_num_threads(n_threads)
    rng = np.random.default_rng(0)
    history = random_history(schema, model.grade.max_len, rng)
    ways = ways_to_score(model, schema, history)
    latencies = []
    for n_candidates in candidates:
        request = random_candidates(schema, n_candidates, int(np.max(history.times)) + 60, rng)
        for way, score in ways.items():
            made = partial(score, history, request)
            latencies.append(_measure(way, n_candidates, made, seconds))
    state_bytes = None
    if "cached" in ways:
        state_bytes = Scorer(model, schema).encode(history).n_bytes
    return ServingReport(
        run_folder.resolve().name,
        {"kind": model.kind, **asdict(model.options)},
        model.grade.max_len,
        state_bytes,
        n_threads,
        tuple(latencies),
        {**describe_environment("cpu"), "processor": _processor()},
    )


def ways_to_score(model: CTRModel, schema: Schema, cached: History) -> dict[str, Score]:
    """Return one scoring function per way (`WAYS`) that the model allows.

    Args:
        model: in evaluation mode.
        schema: the model's features.
        cached: the history that the way `cached` encodes beforehand.
    """
    ways: dict[str, Score] = {
        "single": partial(_single, model, schema),
        "repeated": partial(_repeated, model, schema),
    }
    try:
        scorer = Scorer(model, schema)
    except ValueError:  # histories cannot be shared between requests
        return ways
    state = scorer.encode(cached)
    ways["parallel"] = lambda history, request: scorer.score(scorer.encode(history), request)
    if not scorer.caches:
        return ways
    ways["cached"] = lambda history, request: scorer.score(state, request)
    return ways


def random_history(schema: Schema, length: int, rng: np.random.Generator) -> History:
    """Return a history of `length` events, minutes to days apart."""
    behaviours = _cells(schema, schema.behaviour, length, rng)
    gaps = np.exp(rng.normal(6, 2, length)).astype(np.int64)
    profile = _cells(schema, schema.profile, 1, rng)
    return History(behaviours, 1_700_000_000 + gaps.cumsum(), profile)


def random_candidates(schema: Schema, n: int, time: int, rng: np.random.Generator) -> Candidates:
    """Return `n` candidates of a request at `time`."""
    features = _cells(schema, schema.candidate, n, rng)
    context = _cells(schema, schema.context, n, rng)
    return Candidates(features, time, context, {name: rng.random(n) for name in schema.numeric})


def _cells(
    schema: Schema, features: Sequence[Feature], n: int, rng: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """Random ids of `n` cells, as many in each as it can hold, and weights."""
    found: dict[str, NDArray[Any]] = {}
    for feature in features:
        size = schema.vocabularies[feature.vocabulary]
        ids = rng.integers(1, size, n)
        if feature.max_values > 1:
            # distinct: each id is the one before plus one
            ids = (ids[:, None] + np.arange(min(feature.max_values, size - 1)) - 1) % (size - 1) + 1
        found[feature.name] = ids
        if feature.weighted:
            found[f"{feature.name}{WEIGHTS}"] = rng.random(ids.shape) + 0.1
    return found


@torch.inference_mode()
def _single(model: CTRModel, schema: Schema, history: History, request: Candidates) -> list[float]:
    user, own = read_history(schema, history), read_candidates(schema, request)
    return [
        torch.sigmoid(model(_batch(user, own, slice(row, row + 1)))).item()
        for row in range(len(own.features))
    ]


@torch.inference_mode()
def _repeated(model: CTRModel, schema: Schema, history: History, request: Candidates) -> object:
    user, own = read_history(schema, history), read_candidates(schema, request)
    return torch.sigmoid(model(_batch(user, own, slice(None)))).numpy()


def _batch(user: UserRows, own: CandidateRows, rows: slice) -> Batch:
    """Return a batch with one sample per candidate, each with the whole history."""
    features = torch.from_numpy(own.features[rows])
    n, times = len(features), torch.from_numpy(np.append(user.times, own.time))
    return Batch(
        behaviours=torch.from_numpy(user.behaviours).expand(n, -1, -1),
        times=times.expand(n, -1),
        hours=(times // 3600 % 24 + 1).expand(n, -1),
        lengths=torch.full((n,), len(user.times)),
        candidate=features,
        context=torch.from_numpy(own.context[rows]),
        profile=torch.from_numpy(user.profile).expand(n, -1),
        numeric=torch.from_numpy(own.numeric[rows]),
        label=torch.empty(n),
    )


def _processor() -> str:
    """The processor's name, or its architecture if the name is unknown."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _measure(way: str, n_candidates: int, request: Callable[[], object], seconds: float) -> Latency:
    """Make requests one after the other for `seconds`, after a warm-up."""
    for _ in range(_WARM_UP):
        request()
    wall: list[float] = []
    cpu: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(wall) < _FEWEST:
        begin = time.perf_counter(), time.process_time()
        request()
        wall.append(time.perf_counter() - begin[0])
        cpu.append(time.process_time() - begin[1])
    p50, p95, p99 = (1e3 * float(value) for value in np.percentile(wall, [50, 95, 99]))
    rate = n_candidates * len(wall) / sum(wall)
    return Latency(way, n_candidates, len(wall), p50, p95, p99, 1e3 * float(np.median(cpu)), rate)
