"""Measures a few steps of each grade on this device, for the estimates of plans; needs torch."""

import logging
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median

from models.grades import GRADES
from models.kinds import size_of
from models.model_options import SuanOptions
from scaling.batches import Epoch, find_groups
from scaling.device_peaks import published_peak
from scaling.errors import UserError, nearest
from scaling.process import prepare_process
from scaling.store import EventStore, log_shape
from scaling.study import (
    SMALLEST_BATCH,
    DataFacts,
    RunConfig,
    StudyConfig,
    data_facts,
    ensure_data,
    recipe_for,
    warmup_steps,
)
from scaling.synthetic import SyntheticConfig, generate_logs
from scaling.training import Training, autocast, denormals_flushed, predict
from sweeps.planning.cost_estimate import Throughput, keep_benchmarks, read_benchmarks
from sweeps.planning.grid import check_models, grid_cells
from sweeps.planning.guessed_cost import evaluation_seconds, training_seconds
from sweeps.planning.machine_speed import REFERENCE

__all__ = ["benchmark_grades", "measure_grades"]


logger = logging.getLogger(__name__)

_WARM_STEPS, _FEWEST_STEPS = 3, 3
_MOST_SECONDS = 20.0  # per grade and batch size
_MOST_EVALUATION_SECONDS = 10.0
# a large product, and how long it is repeated
_PRODUCT_WIDTH, _PRODUCT_WIDTH_ON_GPU, _PRODUCT_SECONDS = 1024, 8192, 0.2
_GENERATED = SyntheticConfig(n_train=65_536, n_test=4_096)
_SIZES = (
    16_384,
    16_777_216,
)  # data sizes without a study: one has small batches, one large batches
_START = "import submitit.core._submit, sweeps.dispatch.worker, scaling.training.run_on_disk, scaling.store.event_store; scaling.process.prepare_process()"


def benchmark_grades(
    study: StudyConfig | None, grades: Sequence[str] | None, runs_root: Path, *, n_steps: int = 20
) -> list[tuple[str, Throughput]]:
    """Measure as `measure_grades` does, and store each result beside the runs.

    Earlier results for other grades or devices stay in the file.

    Raises:
        UserError: there is no such grade, the data cannot be read or generated, or the file is damaged.
        StorageError: the file cannot be written.
    """
    read_benchmarks(runs_root)  # a damaged file is reported before anything is measured
    measured = []
    for name, one in measure_grades(study, grades, n_steps=n_steps):
        measured.append((name, one))
        keep_benchmarks(runs_root, [one])
    return measured


def measure_grades(
    study: StudyConfig | None, grades: Sequence[str] | None, *, n_steps: int = 20
) -> Iterator[tuple[str, Throughput]]:
    """Measure the grades of a study or of the ladder on this machine; yield each with its name.

    Args:
        study: the study; None: `grades` of the ladder on generated logs.
        grades: names of grades; None: all grades of the study.
        n_steps: steps to measure for each grade and batch size; fewer if they take over 20 seconds.

    Raises:
        UserError: there is no such grade, or the data cannot be read or generated.
    """
    device = prepare_process()
    start_seconds = _start_seconds()
    with _data(study) as store:
        found = _configurations(study, grades, store)
        # the peak memory of the process is that of its largest model so far
        for name in sorted(found, key=lambda name: _activation_bytes(found[name][-1], store)):
            logger.info("%s: up to %d steps at %d sizes", name, n_steps, len(found[name]))
            yield name, _measure(found[name], store, device, start_seconds, n_steps)


@contextmanager
def _data(study: StudyConfig | None) -> Iterator[EventStore]:
    if study is not None:
        yield ensure_data(study.data)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield generate_logs(Path(folder) / "logs", _GENERATED)


def _configurations(
    study: StudyConfig | None, grades: Sequence[str] | None, store: EventStore
) -> dict[str, list[RunConfig]]:
    """Return for each grade and its options the configurations with the smallest and the largest batch."""
    if study is None:
        cells = [_ladder_cell(name, size, store) for name in grades or () for size in _SIZES]
    else:
        facts = data_facts(study.data)
        grid = grid_cells(study, facts)
        check_models(grid, facts)
        # the time of a distilled run is estimated from its two models
        cells = [one for c in grid for one in (c.student_alone, c.teacher_alone) if one is not None]
        for name in grades or ():
            if name not in (known := {cell.grade_name for cell in cells}):
                raise UserError(f"grade {name}: not in the grid{nearest(name, known)}")
        cells = [cell for cell in cells if not grades or cell.grade_name in grades]
    alike: dict[object, list[RunConfig]] = {}
    for cell in cells:
        alike.setdefault((cell.grade_name, cell.grade, cell.model, cell.packing), []).append(cell)
    found = {}
    for group in alike.values():
        batches = {cell.batch_size: replace(cell, batch_schedule="fixed") for cell in group}
        if any(cell.batch_schedule == "growing" for cell in group):
            small = min(SMALLEST_BATCH, *batches)
            batches.setdefault(small, replace(batches[min(batches)], batch_size=small))
        by_batch = sorted(batches.items())
        ends = [cell for _, cell in (by_batch[0], by_batch[-1])]
        one = ends[0]
        label = one.grade_name
        if label in found:
            label = f"{label} {one.model} {one.packing}"
        found[label] = ends if len(by_batch) > 1 else ends[:1]
    return found


def _ladder_cell(name: str, n_samples: int, store: EventStore) -> RunConfig:
    if name not in GRADES:
        raise UserError(f"grade {name}: there is no such grade{nearest(name, GRADES)}")
    grade = GRADES[name]
    rule = recipe_for(n_samples, grade.d * len(store.schema.behaviour))
    return RunConfig(
        grade_name=name,
        grade=grade,
        model=SuanOptions(),
        n_samples=n_samples,
        seed=0,
        batch_size=rule.batch_size,
        learning_rate=rule.learning_rate,
        embedding_rate=rule.embedding_rate,
        schedule="decay",
        data_order="independent",
        data_fingerprint=store.fingerprint,
        warmup_steps=warmup_steps(n_samples // rule.batch_size),
    )


def _measure(
    configs: Sequence[RunConfig],
    store: EventStore,
    device: str,
    start_seconds: float,
    n_steps: int,
) -> Throughput:
    points = []
    with denormals_flushed():
        for config in configs:
            training, samples_per_step = _train_a_little(config, store, device, n_steps)
            times = [0.0, *training.seconds]
            first = min(_WARM_STEPS, len(times) - 2)
            steps = [b - a for a, b in zip(times[first:], times[first + 1 :], strict=False)]
            points.append((samples_per_step, median(steps)))
        step, sample = _line(points)
        evaluation = _expected_evaluation(config, store, step / samples_per_step + sample)
        if store.n_test * evaluation < _MOST_EVALUATION_SECONDS:
            begin = time.perf_counter()
            predict(training.model, store, config.grade.max_len, device)
            evaluation = (time.perf_counter() - begin) / store.n_test
    name, size = _device_name(device), size_of(config.grade, config.model, store.schema)
    n_samples, seconds = points[-1]
    rate = None
    if published_peak(name, config.precision) is None:
        rate = _product_flops_per_second(device, config.precision)
    return Throughput(
        grade=config.grade,
        model=config.model,
        packing=config.packing,
        data=store.fingerprint,
        device=name,
        step_seconds=step,
        sample_seconds=sample,
        evaluation_sample_seconds=evaluation,
        start_seconds=start_seconds,
        peak_memory_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        node=os.environ.get("SLURMD_NODENAME") or platform.node(),
        precision=config.precision,
        flops_per_second=size.training_flops(1) * n_samples / seconds,
        product_flops_per_second=rate,
    )


@cache
def _product_flops_per_second(device: str, precision: str) -> float:
    """Return the rate of the fastest of several products of large matrices, in this process with its threads."""
    import torch

    width = _PRODUCT_WIDTH if device == "cpu" else _PRODUCT_WIDTH_ON_GPU
    one, best, end = torch.ones(width, width, device=device), 0.0, None
    with torch.inference_mode(), autocast(device, precision):
        if precision == "bf16":
            one = (
                one.bfloat16()
            )  # a training converts its parameters, too, but its products are smaller
        while end is None or time.perf_counter() < end:
            begin = time.perf_counter()
            (one @ one)[0, 0].item()  # waits for a GPU
            done = time.perf_counter()
            # the first product starts the libraries
            best = max(best, 2 * width**3 / (done - begin)) if end is not None else 0.0
            end = end or done + _PRODUCT_SECONDS
    return best


def _train_a_little(
    config: RunConfig, store: EventStore, device: str, n_steps: int
) -> tuple[Training, float]:
    """Train the first steps; return the training and its mean number of samples per step."""
    n_samples = min(store.n_train, config.batch_size * (_WARM_STEPS + n_steps))
    short = replace(config, n_samples=n_samples)
    epoch = Epoch(short, store, find_groups(short, store))
    training = Training(short, store, device)
    end = time.perf_counter() + _MOST_SECONDS

    def stop_in_time() -> None:
        if training.step >= _FEWEST_STEPS and time.perf_counter() > end:
            raise _EnoughError

    with suppress(_EnoughError):
        training.advance(epoch, stop_in_time)
    return training, float(epoch.seen[training.step - 1]) / training.step


def _expected_evaluation(config: RunConfig, store: EventStore, sample_seconds: float) -> float:
    """Return the seconds per sample of the evaluation that go with those of the training."""
    sizes = (store.n_train, store.n_test)
    facts = DataFacts(store.path, store.schema, *sizes, store.fingerprint, log_shape(store))
    n = config.n_samples
    expected = evaluation_seconds(config, facts, REFERENCE) / store.n_test
    return sample_seconds * expected * n / training_seconds(config, facts, REFERENCE, n)


class _EnoughError(Exception):
    """The steps have taken long enough."""


def _activation_bytes(config: RunConfig, store: EventStore) -> int:
    return size_of(config.grade, config.model, store.schema).activation_bytes


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Fit seconds per step and per sample to one or two points (samples, seconds); both are at least 0."""
    (n, seconds), (m, more) = points[0], points[-1]
    slope = (more - seconds) / (m - n) if m > n else seconds / n
    if slope <= 0 or seconds - slope * n <= 0:
        return 0.0, float(more / m)
    return float(seconds - slope * n), float(slope)


def _start_seconds() -> float:
    """Measure the time from the start of a worker until it can train."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", _START], check=True)
    return round(time.perf_counter() - begin, 2)


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
