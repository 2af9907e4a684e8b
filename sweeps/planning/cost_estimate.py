"""Estimated time and memory of a cell: from finished runs of its grade, else a benchmark, else its FLOPs.

Finished runs come first, because the next cells will run on the same machines.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, Literal

from models.accounting import ModelSize, model_size
from models.grades import Grade
from models.model_options import SuanOptions
from scaling.errors import UserError
from scaling.strict_values import from_document
from scaling.study import TOKENS_PER_PART, DataFacts, RunConfig

__all__ = [
    "BENCHMARK_FILE",
    "Estimate",
    "Measurements",
    "Throughput",
    "estimate",
    "guess_text",
    "measurements",
    "read_benchmarks",
]


BENCHMARK_FILE = "benchmark.json"
_AGAIN = "remove it, and run `scaling benchmark` again"

# Guesses without any measurement: the speed of one core and one GPU of 2020 on these small models (about a
# tenth of the GPU's speed for matrix products), and the fixed time of a step.
_CORE_FLOPS_PER_SECOND, _CORE_STEP_SECONDS = 2.0e10, 0.006
_GPU_FLOPS_PER_SECOND, _GPU_STEP_SECONDS = 1.5e13, 0.01
# time to start Python and import torch, measured on one core; replaced by a benchmark's value
_START_SECONDS = 4.0
# only the forward pass, and no activations are stored
_EVALUATION_SPEEDUP = 3.0
# memory of a process with torch; with CUDA it needs more memory on the host
_PROCESS_GIB, _CUDA_PROCESS_GIB = 0.5, 3.0
_BYTES_PER_PARAMETER = 16  # value, gradient and two moments

Source = Literal["run", "benchmark", "guess"]
_SOURCES: tuple[Source, ...] = ("run", "benchmark", "guess")  # the better ones first


@dataclass(frozen=True)
class Estimate:
    """`seconds` on one device without the start of the process; `memory_gib` is the peak of the process."""

    seconds: float
    memory_gib: float
    source: Source


@dataclass(frozen=True)
class Throughput:
    """Result of `scaling benchmark` for a grade: a step takes `step_seconds + batch_size * sample_seconds`."""

    grade: Grade
    model: SuanOptions
    packing: str
    data: str
    device: str
    step_seconds: float
    sample_seconds: float
    evaluation_sample_seconds: float
    start_seconds: float
    peak_memory_gib: float


@dataclass(frozen=True)
class Measurements:
    """All measurements, by grade, options and packing.

    Attributes:
        runs: for each data size the finished runs, as pairs of samples per second and memory in GiB.
        benchmarks: results of `scaling benchmark`.
    """

    runs: dict[tuple[Any, ...], dict[int, list[tuple[float, float]]]]
    benchmarks: dict[tuple[Any, ...], Throughput]

    def closest(self, key: tuple[Any, ...], n_samples: int) -> tuple[float, float] | None:
        """Return the median speed and the highest memory of the runs with the closest data size."""
        sizes = self.runs.get(key)
        if not sizes:
            return None
        runs = sizes[min(sizes, key=lambda size: abs(math.log(size / n_samples)))]
        return median(rate for rate, _ in runs), max(memory for _, memory in runs)

    @property
    def start_seconds(self) -> float:
        """Time from the start of a process until it can train."""
        known = [one.start_seconds for one in self.benchmarks.values()]
        return max(known) if known else _START_SECONDS


def measurements(
    records: Sequence[dict[str, Any]], benchmarks: Sequence[Throughput], data: str
) -> Measurements:
    """Collect the measurements on one data set.

    A benchmark on other data is used if there is none on these.

    Args:
        records: documents of `record.json`; those on other data are skipped.
        benchmarks: all benchmarks.
        data: fingerprint of the event store.
    """
    runs: dict[tuple[Any, ...], dict[int, list[tuple[float, float]]]] = {}
    for record in records:
        config = record.get("config", {})
        if config.get("data_fingerprint") == data:
            key = (
                tuple(sorted(config["grade"].items())),
                tuple(sorted(config["model"].items())),
                config["packing"],
                _teacher_key(config.get("distill")),
            )
            facts = (record["samples_per_second"], record["peak_memory_gib"])
            runs.setdefault(key, {}).setdefault(config["n_samples"], []).append(facts)
    known = {
        (_items(one.grade), _items(one.model), one.packing, None): one
        for one in sorted(benchmarks, key=lambda one: one.data == data)
    }
    return Measurements(runs, known)


def estimate(
    config: RunConfig,
    data: DataFacts,
    known: Measurements,
    *,
    on_gpu: bool = False,
    n_trained: int | None = None,
) -> Estimate:
    """Estimate the time and memory of a cell.

    For a distilled cell without a comparable run, the two models are estimated separately and added.

    Args:
        config: the cell.
        data: the store.
        known: measurements on it.
        on_gpu: whether a guess is for a GPU.
        n_trained: impressions to train, if they are fewer than the cell's data size.
    """
    n_samples = config.n_samples if n_trained is None else n_trained
    n_steps = math.ceil(n_samples / config.batch_size)
    teacher = None if config.distill is None else _teacher_key(asdict(config.distill))
    key = (_items(config.grade), _items(config.model), config.packing, teacher)
    if (closest := known.closest(key, config.n_samples)) is not None:
        rate, memory = closest
        seconds = n_samples / rate + data.n_test / (rate * _EVALUATION_SPEEDUP)
        return Estimate(seconds, memory, "run")
    if config.distill is not None and (taught := config.teacher_alone) is not None:
        how: dict[str, Any] = {"on_gpu": on_gpu, "n_trained": n_samples}
        own = estimate(config.student_alone, data, known, **how)
        more = estimate(taught, data, known, **how)
        share = 1 / 3 if config.distill.is_frozen else 1.0
        base = _CUDA_PROCESS_GIB if on_gpu else _PROCESS_GIB
        memory = own.memory_gib + max(0.0, more.memory_gib - base)
        source = max(own.source, more.source, key=_SOURCES.index)
        return Estimate(own.seconds + share * more.seconds, memory, source)
    size = model_size(config.grade, config.model, data.schema)
    if (bench := known.benchmarks.get(key)) is not None:
        seconds = n_steps * bench.step_seconds + n_samples * bench.sample_seconds
        seconds += data.n_test * bench.evaluation_sample_seconds
        return Estimate(seconds, bench.peak_memory_gib, "benchmark")
    rate, step = (
        (_GPU_FLOPS_PER_SECOND, _GPU_STEP_SECONDS)
        if on_gpu
        else (_CORE_FLOPS_PER_SECOND, _CORE_STEP_SECONDS)
    )
    flops = size.training_flops(n_samples) + size.flops_per_sample * data.n_test
    return Estimate(flops / rate + step * n_steps, _guess_memory(config, size, on_gpu), "guess")


def guess_text(on_gpu: bool) -> str:
    """Return the assumption behind a guess, as text for the user."""
    rate = _GPU_FLOPS_PER_SECOND if on_gpu else _CORE_FLOPS_PER_SECOND
    return f"{rate:.1e} FLOP per second of one {'GPU' if on_gpu else 'core'}"


def read_benchmarks(folder: Path) -> list[Throughput]:
    """Return the results of `scaling benchmark` stored beside the runs; empty if there are none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / BENCHMARK_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return list(from_document(tuple[Throughput, ...], document, f"{path}: damaged"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; {_AGAIN}") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged: {error}; {_AGAIN}") from error
    except UserError as error:
        raise UserError(f"{error}; {_AGAIN}") from error


def _guess_memory(config: RunConfig, size: ModelSize, on_gpu: bool) -> float:
    n_bytes = _BYTES_PER_PARAMETER * (size.n_params + size.n_embedding_params)
    if not on_gpu:  # a CPU trains a batch in parts that fit its caches
        n_together = min(config.batch_size, 1 + TOKENS_PER_PART // config.grade.max_len)
        n_bytes += n_together * size.activation_bytes
    return (_CUDA_PROCESS_GIB if on_gpu else _PROCESS_GIB) + n_bytes / 2**30


def _teacher_key(distill: dict[str, Any] | None) -> tuple[Any, ...] | None:
    """Return the parts of a `Distillation` document that the time of a run depends on."""
    if distill is None:
        return None
    teacher = tuple(tuple(sorted(distill[part].items())) for part in ("teacher", "model"))
    return (*teacher, distill["learning_rate"] is None)


@lru_cache(maxsize=4096)
def _items(value: Grade | SuanOptions) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(asdict(value).items()))
