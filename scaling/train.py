"""One run: one epoch over a nested subset, then the whole test part; the one training loop there is."""

import json
import logging
import math
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.accounting import model_size
from models.suan import SUAN, Batch, build_suan
from scaling.config import RunConfig
from scaling.errors import StorageError, UserError
from scaling.files import write_json
from scaling.lease import Lease, claim, remove_attempts
from scaling.loader import iterate_test, iterate_training
from scaling.metrics import evaluate
from scaling.order import order_key
from scaling.packing import (
    count_packed_steps,
    group_requests,
    group_stretches,
    iterate_packed,
)
from scaling.provenance import code_version, describe_environment
from scaling.recipe import BETAS, EMBEDDING_RATE, GRADIENT_CLIP, rate_factor
from scaling.records import RunRecord, RunStore
from scaling.store import EventStore

__all__ = ["NonFiniteLossError", "build_optimisers", "predict", "train_model", "train_run"]

logger = logging.getLogger(__name__)

# Lines in metrics.jsonl per run.
_LOG_LINES = 50

Progress = Callable[[dict[str, Any]], None]


class NonFiniteLossError(Exception):
    """The training loss became infinite or not a number; says at which step."""


def train_run(
    config: RunConfig, store: EventStore, runs: RunStore, device: str = "cpu"
) -> RunRecord:
    """Train and evaluate one cell and write its record; a run that is complete is only read.

    Raises:
        UserError: the store is not the one that the config was planned for, or is too small.
        RunBusyError: a living process trains this run already.
        NonFiniteLossError: the loss diverged; the run's status then says failed.
    """
    signature = config.signature
    if runs.has(signature):
        return runs.read(signature)
    if store.fingerprint != config.data_fingerprint:
        raise UserError(
            f"{store.path}: its fingerprint is {store.fingerprint[:12]}, but the run was planned for "
            f"{config.data_fingerprint[:12]}; plan again, or restore the data"
        )
    if config.n_samples > store.n_train:
        raise UserError(
            f"{store.path}: {store.n_train} training impressions, but the run wants {config.n_samples}"
        )
    started = datetime.now(UTC).isoformat(timespec="seconds")
    code = code_version()
    lease = claim(runs.folder(signature), done=lambda: runs.has(signature))
    if lease is None:
        return runs.read(signature)
    try:
        write_json(runs.folder(signature) / "config.json", asdict(config))
        progress = _ProgressWriter(runs, signature, lease)
        begin = time.perf_counter()
        with _denormals_flushed():
            model, train_loss = train_model(config, store, device, progress, progress.beat)
        train_seconds = time.perf_counter() - begin
        metrics = _evaluate(model, store, config, device, progress.beat)
    except Exception as error:
        told = isinstance(error, UserError | NonFiniteLossError)
        lease.end("exception", str(error) if told else f"{type(error).__name__}: {error}")
        raise
    size = model_size(config.grade, config.model, store.schema)
    record = RunRecord(
        config=config,
        n_params=size.n_params,
        n_embedding_params=size.n_embedding_params,
        flops_per_sample=size.flops_per_sample,
        flops=size.training_flops(config.n_samples),
        metrics=metrics,
        train_loss=train_loss,
        train_seconds=train_seconds,
        samples_per_second=config.n_samples / train_seconds,
        peak_memory_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        provenance={
            **code,
            **describe_environment(_device_name(device)),
            "started": started,
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "data": str(store.path),
            "truth": store.truth,
        },
    )
    runs.write(record)
    lease.close()
    remove_attempts(runs.folder(signature))
    return record


def train_model(
    config: RunConfig,
    store: EventStore,
    device: str = "cpu",
    progress: Progress | None = None,
    beat: Callable[[], None] = lambda: None,
) -> tuple[SUAN, float]:
    """Train one epoch and return the model and the mean loss, each sample before it was trained on.

    Initialisation, order and dropout have seeds of their own, all drawn from the config's: the same
    config gives the same numbers on the same machine. `progress` gets about fifty lines, `beat` is called
    at every step.

    Raises:
        NonFiniteLossError: naming the first such step.
    """
    model = build_suan(
        config.grade,
        config.model,
        store.schema,
        base_rate=store.base_rate["train"],
        seed=order_key("init", config.seed) % 2**63,
    ).to(device)
    generator = torch.Generator(device).manual_seed(order_key("dropout", config.seed) % 2**63)
    model.dropout_generator = generator
    model.train()
    adam, sparse = build_optimisers(model)
    dense = adam.param_groups[0]["params"]
    n_steps, steps = _steps(config, store)
    log_every = max(1, n_steps // _LOG_LINES)
    pending: list[torch.Tensor] = []
    sizes: list[int] = []
    total, n_seen, begin = 0.0, 0, time.perf_counter()
    for step, parts in enumerate(steps):
        rate = config.learning_rate * rate_factor(
            step, n_steps, config.warmup_steps, config.schedule
        )
        for optimiser, multiple in ((adam, 1.0), (sparse, EMBEDDING_RATE)):
            optimiser.param_groups[0]["lr"] = rate * multiple
        adam.zero_grad()
        sparse.zero_grad()
        n_in_batch = sum(_n_samples(part) for part in parts)
        n_seen += n_in_batch
        sizes.append(n_in_batch)
        shares = [_backward(model, _to_device(part, device), n_in_batch) for part in parts]
        pending.append(torch.stack(shares).sum())
        torch.nn.utils.clip_grad_norm_(dense, GRADIENT_CLIP, foreach=True)
        adam.step()
        sparse.step()  # type: ignore[no-untyped-call]
        beat()
        if (step + 1) % log_every == 0 or step + 1 == n_steps:
            # Reading a loss waits for the device, so it is done once per line, not per step.
            losses = torch.stack(pending).tolist()
            first = step + 1 - len(losses)
            _check_finite(losses, first)
            total += sum(loss * n for loss, n in zip(losses, sizes, strict=True))
            sizes.clear()
            pending.clear()
            if progress is not None:
                progress(
                    {
                        "step": step + 1,
                        "n_steps": n_steps,
                        "n_samples": n_seen,
                        "loss": sum(losses) / len(losses),
                        "learning_rate": rate,
                        "samples_per_second": n_seen / (time.perf_counter() - begin),
                    }
                )
    return model, total / config.n_samples


def _steps(config: RunConfig, store: EventStore) -> tuple[int, Iterator[list[Batch]]]:
    """Return how many steps the epoch has, and the steps."""
    max_len, epoch = config.grade.max_len, (config.n_samples, config.batch_size)
    if config.packing == "none":
        n_steps = math.ceil(config.n_samples / config.batch_size)
        return n_steps, iterate_training(store, *epoch, max_len, _order(config))
    group = group_requests if config.packing == "request" else group_stretches
    groups = group(store, max_len)
    n_steps = count_packed_steps(groups, *epoch, _order(config))
    return n_steps, iterate_packed(store, groups, *epoch, _order(config))


def _n_samples(part: Batch) -> int:
    return part.label.numel() if part.present is None else int(part.present.sum())


def _backward(model: SUAN, part: Batch, n_in_batch: int) -> torch.Tensor:
    """Add the part's gradients and return its share of the batch's mean loss."""
    logits, labels = model(part), part.label
    if part.present is not None:
        logits, labels = logits[part.present], labels[part.present]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    loss = loss / n_in_batch
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def build_optimisers(model: SUAN) -> tuple[torch.optim.AdamW, torch.optim.SparseAdam]:
    """Return AdamW for the dense part and lazy Adam for the feature table.

    Lazy: rows that a batch does not touch keep their moments, and cost nothing.
    """
    dense = [p for p in model.parameters() if p is not model.embeddings.weight]
    return (
        torch.optim.AdamW(dense, betas=BETAS, weight_decay=0.0, fused=True),
        torch.optim.SparseAdam([model.embeddings.weight], betas=BETAS),
    )


def predict(
    model: SUAN,
    store: EventStore,
    max_len: int,
    device: str = "cpu",
    beat: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """Return the logits of the whole test part, in its order, [n_test]; `beat` is called per batch."""
    model.eval()
    logits = np.empty(store.n_test)
    with torch.inference_mode():
        for positions, batch in iterate_test(store, max_len):
            logits[positions] = model(_to_device(batch, device)).double().cpu().numpy()
            beat()
    return logits


def _evaluate(
    model: SUAN, store: EventStore, config: RunConfig, device: str, beat: Callable[[], None]
) -> dict[str, float]:
    logits = predict(model, store, config.grade.max_len, device, beat)
    if not np.isfinite(logits).all():
        raise NonFiniteLossError("the trained model gives predictions that are not finite")
    test = slice(store.n_train, store.n_impressions)
    truth = None if store.probability is None else np.asarray(store.probability[test])
    metrics = evaluate(np.asarray(store.label[test]), logits, truth)
    # a metric that the test part does not define (AUC of one class) is left out, not stored as NaN
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Numbers below 1e-38 cost a CPU a hundred times more than zero, and mean nothing here."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _order(config: RunConfig) -> int:
    shared = config.data_order == "shared"
    return order_key("order", config.seed, "shared" if shared else asdict(config.grade))


def _check_finite(losses: list[float], first_step: int) -> None:
    for index, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise NonFiniteLossError(f"the loss is {loss} at step {first_step + index}")


class _ProgressWriter:
    """Appends to metrics.jsonl and keeps the run's heartbeat fresh, through the evaluation too."""

    def __init__(self, runs: RunStore, signature: str, lease: Lease) -> None:
        self._lease = lease
        self._path = runs.folder(signature) / "metrics.jsonl"
        self._path.unlink(missing_ok=True)

    def __call__(self, line: dict[str, Any]) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be written: {error.strerror}") from error
        self._lease.update(
            **{key: line[key] for key in ("step", "n_steps", "loss", "samples_per_second")}
        )

    def beat(self) -> None:
        """Stop if another process has taken the run over."""
        self._lease.check()


def _to_device(batch: Batch, device: str) -> Batch:
    if device == "cpu":
        return batch
    moved = {
        f.name: value.pin_memory().to(device, non_blocking=True)
        for f in fields(batch)
        if (value := getattr(batch, f.name)) is not None
    }
    return replace(batch, **moved)


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
