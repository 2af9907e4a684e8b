"""Estimated time and memory of a cell: from finished runs of its grade, else a benchmark, else a guess.

Finished runs come first, because the next cells will run on the same machines. The guess is in
`sweeps.planning.guessed_cost`.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, Literal

from models.accounting import ModelSize
from models.grades import Grade
from models.kinds import size_of
from models.model_options import ModelOptions
from scaling.atomic_files import write_json
from scaling.device_peaks import mfu, published_peak
from scaling.documents import read_json
from scaling.errors import UserError
from scaling.strict_values import from_document
from scaling.study import TOKENS_PER_PART, BatchSchedule, DataFacts, RunConfig, count_steps
from sweeps.planning.guessed_cost import GpuSpeed, evaluation_seconds, training_seconds
from sweeps.planning.machine_speed import REFERENCE, MachineSpeed, measure_machine
from sweeps.planning.several_ranks import speed_up

__all__ = [
    "BENCHMARK_FILE",
    "Estimate",
    "Measurements",
    "Throughput",
    "estimate",
    "guess_text",
    "keep_benchmarks",
    "measurements",
    "read_benchmarks",
]


BENCHMARK_FILE = "benchmark.json"
_AGAIN = "remove it, and run `scaling benchmark` again"

# time to start Python and import torch, measured on one core; replaced by a benchmark's value
_START_SECONDS = 4.0
# memory of a process with torch; with CUDA it needs more memory on the host
_PROCESS_GIB, _CUDA_PROCESS_GIB = 0.5, 3.0
_BYTES_PER_PARAMETER = 16  # value, gradient and two moments

# data size, batch size and batch schedule
_Epoch = tuple[int, int, BatchSchedule]

Source = Literal["run", "benchmark", "guess"]
_SOURCES: tuple[Source, ...] = ("run", "benchmark", "guess")  # the better ones first


@dataclass(frozen=True)
class Estimate:
    """Time on one device without the start of the process, and the peak memory of the process.

    Attributes:
        seconds: training and evaluation; of a cell that shares a GPU with others, its share of the GPU's time.
        evaluation_seconds: the part of them that is evaluation.
        memory_gib: peak of the process.
        source: what the estimate is based on.
        n_beside: cells that shared a GPU in the runs behind it; 1: none shared one, so sharing is not taken to help.
    """

    seconds: float
    evaluation_seconds: float
    memory_gib: float
    source: Source
    n_beside: int = 1


@dataclass(frozen=True)
class Throughput:
    """Result of `scaling benchmark` for a grade: a step takes `step_seconds + batch_size * sample_seconds`.

    Attributes:
        node: the host that was measured; empty in files of earlier versions.
        precision: of products.
        flops_per_second: FLOPs of the model in training per second, with its largest batch; None in files of earlier versions.
        product_flops_per_second: the same of a large product of matrices; None where the peak of the device is published.
    """

    grade: Grade
    model: ModelOptions
    packing: str
    data: str
    device: str
    step_seconds: float
    sample_seconds: float
    evaluation_sample_seconds: float
    start_seconds: float
    peak_memory_gib: float
    node: str = ""
    precision: str = "float32"
    flops_per_second: float | None = None
    product_flops_per_second: float | None = None

    @property
    def mfu(self) -> float | None:
        """The model's FLOPs as a share of the device's peak; where that is not published, of a large product's."""
        peak = published_peak(self.device, self.precision) or self.product_flops_per_second
        return None if self.flops_per_second is None else mfu(self.flops_per_second, 1.0, peak)

    @property
    def identity(self) -> tuple[object, ...]:
        """What it measures; a later measurement of the same replaces it, whatever the node."""
        return self.grade, self.model, self.packing, self.data, self.device


@dataclass(frozen=True)
class _Run:
    """A finished run: samples per second of one process, peak memory in GiB, and how many cells shared its GPU."""

    rate: float
    memory_gib: float
    cells_per_gpu: int


@dataclass(frozen=True)
class _Closest:
    """Runs of an epoch: median rate of the GPU or process, highest memory, and how many cells shared a GPU in all of them."""

    epoch: _Epoch
    rate: float
    memory_gib: float
    n_beside: int


@dataclass(frozen=True)
class Measurements:
    """All measurements, by grade, options and packing.

    Attributes:
        runs: for each data size and batch the finished runs; the last parts of their key are the precision, and whether
            they ran on a CPU.
        benchmarks: results of `scaling benchmark`; the last part of their key is whether it ran on a CPU.
    """

    runs: dict[tuple[Any, ...], dict[_Epoch, list[_Run]]]
    benchmarks: dict[tuple[Any, ...], Throughput]

    def closest(
        self, key: tuple[Any, ...], n_samples: int, on_gpu: bool, cells_per_gpu: int
    ) -> _Closest | None:
        """Return the runs with the closest data size; for a job on a GPU, only those that ran on one.

        Of runs that shared a GPU with others, the rate for `cells_per_gpu` is known to be at least this: more cells on a
        GPU slow down none of the work of all, and fewer slow down none of the cells.
        """
        there = self.runs.get((*key, False))
        epochs = there if on_gpu else self.runs.get((*key, True), there)
        if not epochs:
            return None
        epoch = min(epochs, key=lambda one: abs(math.log(one[0] / n_samples)))
        runs = epochs[epoch]
        beside = [min(run.cells_per_gpu, cells_per_gpu) for run in runs]
        rates = [run.rate * n for run, n in zip(runs, beside, strict=True)]
        return _Closest(epoch, median(rates), max(run.memory_gib for run in runs), min(beside))

    def benchmark(self, key: tuple[Any, ...], on_gpu: bool) -> Throughput | None:
        """Return the benchmark of a grade; for a job on a GPU, only one that ran on a GPU."""
        there = self.benchmarks.get((*key, False))
        return there if on_gpu else self.benchmarks.get((*key, True), there)

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
    runs: dict[tuple[Any, ...], dict[_Epoch, list[_Run]]] = {}
    for record in records:
        config = record.get("config", {})
        if config.get("data_fingerprint") == data:
            key = (
                _text(config["grade"]),
                _text(config["model"]),
                config["packing"],
                _teacher_key(config.get("distill")),
                config.get("precision", "float32"),
                record.get("provenance", {}).get("device", "cpu") == "cpu",
            )
            n_ranks = _last_attempt(record, "ranks")
            rate = record["samples_per_second"] / speed_up(n_ranks)
            # as one process would have held the tables
            elsewhere = _last_attempt(record, "sharded", 0) * (1 - 1 / n_ranks)
            tables = 12 * record.get("n_embedding_params", 0) / 2**30
            memory = record["peak_memory_gib"] + elsewhere * tables
            facts = _Run(rate, memory, _last_attempt(record, "cells_per_gpu"))
            epoch = (
                config["n_samples"],
                config["batch_size"],
                config.get("batch_schedule", "fixed"),
            )
            runs.setdefault(key, {}).setdefault(epoch, []).append(facts)
    known = {
        (_document(one.grade), _document(one.model), one.packing, None, one.device == "cpu"): one
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
    cells_per_gpu: int = 1,
) -> Estimate:
    """Estimate the time and memory of a cell.

    For a distilled cell without a comparable run, the two models are estimated separately and added.

    Args:
        config: the cell.
        data: the store.
        known: measurements on it.
        on_gpu: whether a guess is for a GPU.
        n_trained: impressions to train, if they are fewer than the cell's data size.
        cells_per_gpu: cells that share the GPU.
    """
    n_samples = config.n_samples if n_trained is None else n_trained
    teacher = None if config.distill is None else _teacher_key(asdict(config.distill))
    key = (_document(config.grade), _document(config.model), config.packing, teacher)
    precise = (*key, config.precision)
    closest = known.closest(precise, config.n_samples, on_gpu, cells_per_gpu)
    if closest is not None:
        return _from_runs(config, data, closest, n_samples)
    if config.distill is not None and (taught := config.teacher_alone) is not None:
        how: dict[str, Any] = {
            "on_gpu": on_gpu,
            "n_trained": n_samples,
            "cells_per_gpu": cells_per_gpu,
        }
        own = estimate(config.student_alone, data, known, **how)
        more = estimate(taught, data, known, **how)
        share = 1 / 3 if config.distill.is_frozen else 1.0
        base = _CUDA_PROCESS_GIB if on_gpu else _PROCESS_GIB
        memory = own.memory_gib + max(0.0, more.memory_gib - base)
        source = max(own.source, more.source, key=_SOURCES.index)
        evaluation = own.evaluation_seconds + more.evaluation_seconds
        trained = more.seconds - more.evaluation_seconds
        seconds = own.seconds + share * trained + more.evaluation_seconds
        return Estimate(seconds, evaluation, memory, source, min(own.n_beside, more.n_beside))
    if (bench := known.benchmark(key, on_gpu)) is not None:
        n_steps = config.n_steps - _first_steps(config, n_samples)
        evaluation = data.n_test * bench.evaluation_sample_seconds
        seconds = n_steps * bench.step_seconds + n_samples * bench.sample_seconds + evaluation
        return Estimate(seconds, evaluation, bench.peak_memory_gib, "benchmark")
    speed = GpuSpeed() if on_gpu else measure_machine()
    evaluation = evaluation_seconds(config, data, speed)
    seconds = _last_samples_seconds(config, data, speed, n_samples) + evaluation
    size = size_of(config.grade, config.model, data.schema)
    return Estimate(seconds, evaluation, _guess_memory(config, size, on_gpu), "guess")


def _from_runs(config: RunConfig, data: DataFacts, closest: _Closest, n_samples: int) -> Estimate:
    """Estimate from the speed of other runs; what their batches make of it is as in a guess."""
    epoch = closest.epoch
    seconds = n_samples / closest.rate
    own = (config.n_samples, config.batch_size, config.batch_schedule)
    if (epoch, n_samples) != (own, config.n_samples):
        n, batch_size, schedule = epoch
        other = replace(config, n_samples=n, batch_size=batch_size, batch_schedule=schedule)
        theirs = training_seconds(other, data, REFERENCE, n) / n
        seconds *= _last_samples_seconds(config, data, REFERENCE, n_samples) / n_samples / theirs
    guessed = training_seconds(config, data, REFERENCE, config.n_samples) / config.n_samples
    evaluation = evaluation_seconds(config, data, REFERENCE) * (seconds / n_samples) / guessed
    return Estimate(seconds + evaluation, evaluation, closest.memory_gib, "run", closest.n_beside)


def _last_samples_seconds(
    config: RunConfig, data: DataFacts, speed: MachineSpeed | GpuSpeed, n_samples: int
) -> float:
    """Return the seconds of the last `n_samples` of a run's epoch; a growing batch makes them cheaper than the first."""
    before = training_seconds(config, data, speed, config.n_samples - n_samples)
    return training_seconds(config, data, speed, config.n_samples) - before


def _first_steps(config: RunConfig, n_last: int) -> int:
    """Return the steps of an epoch before its last `n_last` samples."""
    return count_steps(config.n_samples - n_last, config.batch_size, config.batch_schedule)


def guess_text(on_gpu: bool) -> str:
    """Return the assumption behind a guess, as text for the user."""
    if on_gpu:
        return f"{GpuSpeed.flops_per_second:.1e} FLOP per second of one GPU"
    return "the speed of this machine's core"


def read_benchmarks(folder: Path) -> list[Throughput]:
    """Return the results of `scaling benchmark` stored beside the runs; empty if there are none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / BENCHMARK_FILE
    try:
        document = read_json(path)
        return list(from_document(tuple[Throughput, ...], document, f"{path}: damaged"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; {_AGAIN}") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged: {error}; {_AGAIN}") from error
    except UserError as error:
        raise UserError(f"{error}; {_AGAIN}") from error


def keep_benchmarks(folder: Path, measured: Sequence[Throughput]) -> None:
    """Store results of `scaling benchmark` beside the runs; those of other grades, data and devices stay.

    Raises:
        UserError: the file is damaged.
        StorageError: the file cannot be written.
    """
    known = {one.identity: one for one in (*read_benchmarks(folder), *measured)}
    write_json(folder / BENCHMARK_FILE, [asdict(one) for one in known.values()])


def _guess_memory(config: RunConfig, size: ModelSize, on_gpu: bool) -> float:
    n_bytes = _BYTES_PER_PARAMETER * (size.n_params + size.n_embedding_params)
    if not on_gpu:  # a CPU trains a batch in parts that fit its caches
        n_together = min(config.batch_size, 1 + TOKENS_PER_PART // config.grade.max_len)
        n_bytes += n_together * size.activation_bytes
    return (_CUDA_PROCESS_GIB if on_gpu else _PROCESS_GIB) + n_bytes / 2**30


def _last_attempt(record: dict[str, Any], name: str, default: int = 1) -> int:
    """A number of a run's last attempt; `default` if it does not say, as those of earlier versions."""
    try:
        return int(record["provenance"]["attempts"][-1][name])
    except (KeyError, IndexError, TypeError, ValueError):
        return default


def _teacher_key(distill: dict[str, Any] | None) -> tuple[Any, ...] | None:
    """Return the parts of a `Distillation` document that the time of a run depends on."""
    if distill is None:
        return None
    teacher = tuple(_text(distill[part]) for part in ("teacher", "model"))
    return (*teacher, distill["learning_rate"] is None)


@lru_cache(maxsize=4096)
def _document(value: Grade | ModelOptions) -> str:
    return _text(asdict(value))


def _text(document: dict[str, Any]) -> str:
    """The document as text, which is equal for equal documents."""
    return json.dumps(document, sort_keys=True)
