"""The results of a trained run: the metrics on the test part, and the record."""

import math
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.ctr_model import CTRModel
from models.kinds import counted_size, size_of
from scaling.batches import Epoch
from scaling.metrics import evaluate, learned_components
from scaling.ranking_within_users import evaluate_by_user
from scaling.records import DayMetrics, RunRecord, TeacherRecord, describe_environment
from scaling.store import EventStore
from scaling.study import teacher_flops
from scaling.training.loop import NonFiniteLossError, Training, predict
from scaling.training.teacher import samples_before

__all__ = ["Evaluation", "device_name", "evaluate_run", "evaluate_teacher", "make_record"]


_DAY = 86_400


@dataclass(frozen=True)
class Evaluation:
    """The metrics of the whole test part, and by day if the log is split by time."""

    metrics: dict[str, float]
    by_day: tuple[DayMetrics, ...]


def evaluate_run(
    model: CTRModel, training: Training, store: EventStore, beat: Callable[[], None]
) -> Evaluation:
    """Score the whole test part with the training's model, or its teacher's; `beat` is called per batch.

    Raises:
        NonFiniteLossError: a prediction is not finite.
    """
    max_len = model.grade.max_len
    logits = predict(
        model, store, max_len, training.device, training.precision, beat, training.ranks
    )
    if not np.isfinite(logits).all():
        raise NonFiniteLossError("the trained model gives predictions that are not finite")
    test = slice(store.n_train, store.n_impressions)
    truth = None if store.probability is None else np.asarray(store.probability[test])
    label = np.asarray(store.label[test])
    metrics = evaluate(label, logits, truth)
    metrics |= evaluate_by_user(
        np.asarray(store.user[test]), np.asarray(store.request[test]), label, logits
    )
    if truth is not None and store.components:
        metrics |= learned_components(truth, logits, store.components)
    by_day = []
    if store.split["kind"] == "time":
        day = (np.asarray(store.time[test]) - store.split["boundary"]) // _DAY + 1
        for number in np.unique(day):
            rows = day == number
            own = evaluate(label[rows], logits[rows], None if truth is None else truth[rows])
            by_day.append(DayMetrics(int(number), _finite(own)))
    return Evaluation(_finite(metrics), tuple(by_day))


def evaluate_teacher(
    training: Training,
    epoch: Epoch,
    store: EventStore,
    beat: Callable[[], None],
    folders: Sequence[Path],
) -> TeacherRecord | None:
    """Score the teacher like the student and report its size and its data; None if there is no teacher.

    `folders` are those of the run that the teacher was loaded from.
    """
    settings, teacher = epoch.config.distill, training.teacher
    if settings is None or teacher is None:
        return None
    size = size_of(settings.teacher, settings.model, store.schema)
    n_samples, n_new = samples_before(epoch, store, folders)
    return TeacherRecord(
        n_params=size.n_params,
        n_embedding_params=size.n_embedding_params,
        flops_per_sample=size.flops_per_sample,
        metrics=evaluate_run(teacher.model, training, store, beat).metrics,
        n_samples=n_samples,
        n_new_samples=n_new,
    )


def make_record(
    training: Training,
    epoch: Epoch,
    store: EventStore,
    evaluation: Evaluation,
    attempts: Sequence[dict[str, Any]],
    trained_in: str,
    teacher: TeacherRecord | None = None,
    *,
    files: dict[str, str],
) -> RunRecord:
    """Build the record of a run whose epoch is finished.

    Args:
        training: at the end of the epoch.
        epoch: the run's.
        store: the data.
        evaluation: of the test part.
        attempts: all of them, this one last (`scaling.records.lease.Lease.attempts`).
        trained_in: the folder of the attempts: the run's own, or that of the trajectory that produced it.
        teacher: of a distilled run.
        files: SHA-256 of the run's other files, by name.
    """
    config, last = epoch.config, attempts[-1]
    size = size_of(config.grade, config.model, store.schema)
    flops = size.training_flops(config.n_samples)
    if config.distill is not None:
        flops += teacher_flops(config.distill, config.n_samples, store.schema)
    seconds = training.seconds[epoch.n_steps - 1]
    return RunRecord(
        config=config,
        n_params=size.n_params,
        n_embedding_params=size.n_embedding_params,
        flops_per_sample=size.flops_per_sample,
        flops=flops,
        metrics=evaluation.metrics,
        by_day=evaluation.by_day,
        train_loss=training.mean_loss(epoch),
        train_seconds=seconds,
        samples_per_second=config.n_samples / seconds,
        peak_memory_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        provenance={
            **{name: last[name] for name in ("code", "git_commit", "git_dirty", "git_diff")},
            **describe_environment(device_name(training.device)),
            "started": attempts[0]["started"],
            "ended": last["ended"],
            "data": str(store.path),
            "truth": store.truth,
            "excess_logloss_by_rank": store.source.get("excess_logloss_by_rank"),
            "trained_in": trained_in,
            "attempts": list(attempts),
        },
        teacher=teacher,
        computed_flops_per_sample=None
        if teacher
        else counted_size(config.grade, config.model, store.schema).flops_per_sample,
        files=files,
    )


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    """Leave out a metric that the impressions do not define (AUC of one class), which would be NaN."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def device_name(device: str) -> str:
    """Return the GPU's model, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
