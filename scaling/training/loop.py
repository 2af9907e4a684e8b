"""Training in memory: one epoch of steps, from the start or from a checkpoint; no files."""

import math
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.ctr_model import Batch, CTRModel
from models.distillation_loss import latest_behaviours
from scaling.batches import Epoch, find_groups, iterate_test
from scaling.store import EventStore
from scaling.study import RunConfig
from scaling.training.checkpoint import Checkpoint
from scaling.training.device import autocast, memory_use, on_device, tokens_per_part
from scaling.training.learner import Learner
from scaling.training.ranks import ALONE, Ranks, check_exactness
from scaling.training.teacher import build_teacher

__all__ = ["NonFiniteLossError", "Training", "denormals_flushed", "predict", "train_model"]


# Lines in metrics.jsonl per run.
_LOG_LINES = 50

# prefixes of the student's and the teacher's tensors in a checkpoint
_PREFIXES = ("", "teacher.")

Progress = Callable[[dict[str, Any]], None]


class NonFiniteLossError(Exception):
    """The training loss became infinite or not a number; says at which step."""


def train_model(
    config: RunConfig, store: EventStore, device: str = "cpu", progress: Progress | None = None
) -> tuple[CTRModel, float]:
    """Train one epoch and return the model and the mean loss, each sample before it was trained on.

    Initialisation, order and dropout have seeds of their own, all drawn from the config's: the same
    config gives the same numbers on the same machine. `progress` gets about fifty lines.

    Raises:
        NonFiniteLossError: naming the first such step.
    """
    training = Training(config, store, device)
    epoch = Epoch(config, store, find_groups(config, store))

    def after_step() -> None:
        if progress is not None and training.is_line(epoch):
            progress(training.line(epoch))

    training.advance(epoch, after_step)
    return training.model, training.mean_loss(epoch)


class Training:
    """State of one training: model, optional teacher, optimisers and the losses so far.

    Attributes:
        model: the student, if there is a teacher.
        ranks: the processes that train it together.
        losses: mean loss of each step's batch before it was trained on; `settle` brings them up to date.
        seconds: wall-clock seconds of the loop until the end of each step.
    """

    def __init__(
        self,
        config: RunConfig,
        store: EventStore,
        device: str = "cpu",
        *,
        compiled: bool = False,
        teachers: Sequence[Path] = (),
        ranks: Ranks = ALONE,
    ) -> None:
        self._learner = Learner(config, store, device, compiled=compiled, ranks=ranks)
        self.model = self._learner.model
        check_exactness(self.model, ranks)
        self._memory = memory_use(device, config, store.schema)
        self.model.encoder.recomputes = self._memory.recomputes
        self.teacher = build_teacher(
            config,
            store,
            device,
            student=self.model,
            folders=teachers,
            compiled=compiled,
            ranks=ranks,
        )
        self.device, self.precision, self.ranks = device, config.precision, ranks
        self.losses, self.seconds = array("d"), array("d")
        self._pending: list[torch.Tensor] = []

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.seconds)

    def advance(self, epoch: Epoch, after_step: Callable[[], None]) -> None:
        """Train to the end of `epoch`; `after_step` is called between steps, and its time is not counted.

        Raises:
            NonFiniteLossError: naming the first such step.
        """
        for learner in self._learners():
            learner.model.train()
        begin = time.perf_counter() - (self.seconds[-1] if self.seconds else 0.0)
        # the range comes first: once it is through, no further batch is read
        for step, parts in zip(range(self.step, epoch.n_steps), self._batches(epoch), strict=False):
            n_samples = epoch.n_in_step(step)
            self._pending.append(self._train_step(parts, n_samples, epoch.rate_factor(step)))
            self.seconds.append(0.0)
            if self.is_line(epoch):
                self.settle()
            self.seconds[-1] = time.perf_counter() - begin
            after_step()
            begin = time.perf_counter() - self.seconds[-1]

    def settle(self) -> None:
        """Read the losses of the latest steps, which waits for the device; all ranks call it after the same steps.

        Raises:
            NonFiniteLossError: naming the first such step.
        """
        if not self._pending:
            return
        for loss in self.ranks.add_up(torch.stack(self._pending)).tolist():
            if not math.isfinite(loss):
                raise NonFiniteLossError(f"the loss is {loss} at step {len(self.losses)}")
            self.losses.append(loss)
        self._pending.clear()

    def is_line(self, epoch: Epoch) -> bool:
        """Whether progress is reported after this step: about fifty times, and at the end."""
        return self.step == epoch.n_steps or self.step % _line_every(epoch) == 0

    def line(self, epoch: Epoch, step: int | None = None) -> dict[str, Any]:
        """Return the progress after `step` (by default the last): a line of metrics.jsonl.

        The loss is the mean since the line before, the speed that of the whole loop.
        """
        step = step or self.step
        losses = self.losses[(step - 1) // _line_every(epoch) * _line_every(epoch) : step]
        n_samples = int(epoch.seen[step - 1])
        return {
            "step": step,
            "n_steps": epoch.n_steps,
            "n_samples": n_samples,
            "loss": sum(losses) / len(losses),
            "learning_rate": epoch.rate(step - 1),
            "samples_per_second": n_samples / self.seconds[step - 1],
        }

    def lines(self, epoch: Epoch) -> list[dict[str, Any]]:
        """Return all progress lines so far."""
        every = _line_every(epoch)
        steps = [*range(every, self.step + 1, every)]
        if self.step == epoch.n_steps and self.step % every:
            steps.append(self.step)
        return [self.line(epoch, step) for step in steps]

    def mean_loss(self, epoch: Epoch) -> float:
        """Mean loss over the samples of the whole epoch, each before it was trained on."""
        sizes = np.diff(epoch.seen, prepend=0).tolist()
        total = math.fsum(loss * n for loss, n in zip(self.losses, sizes, strict=True))
        return total / epoch.config.n_samples

    def checkpoint(self, label: str, facts: dict[str, Any]) -> Checkpoint:
        """Return the whole state, with `facts` added."""
        self.settle()
        tensors: dict[str, torch.Tensor] = {}
        rests = [
            learner.save(prefix, tensors)
            for learner, prefix in zip(self._learners(), _PREFIXES, strict=False)
        ]
        for name in ("losses", "seconds"):
            tensors[name] = torch.tensor(getattr(self, name), dtype=torch.float64)
        return Checkpoint(label, self.step, tensors, {**facts, "optimisers": rests})

    def load(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint of the same configuration."""
        tensors = checkpoint.tensors
        rests = checkpoint.facts["optimisers"]
        for learner, prefix, rest in zip(self._learners(), _PREFIXES, rests, strict=False):
            learner.load(prefix, tensors, rest)
        self.losses = array("d", tensors["losses"].tolist())
        self.seconds = array("d", tensors["seconds"].tolist())
        self._pending.clear()

    def _train_step(self, parts: list[Batch], n_samples: int, factor: float) -> torch.Tensor:
        """Train on one batch of `n_samples` at `factor` of the peak rates; return its mean loss before the step.

        The batch comes in parts. With several ranks these are this rank's, and so is its share of the mean loss.
        """
        learners = self._learners()
        for learner in learners:
            learner.begin_step(factor)
        shares = [self._backward(part, n_samples) for part in parts]
        for learner in learners:
            learner.end_step()
        return torch.stack(shares).sum() if shares else torch.zeros((), device=self.device)

    def _learners(self) -> list[Learner]:
        """The student first, then its teacher if the teacher is trained."""
        teacher = None if self.teacher is None else self.teacher.learner
        return [self._learner] if teacher is None else [self._learner, teacher]

    def _batches(self, epoch: Epoch) -> Iterator[list[Batch]]:
        tokens, share = self._memory.tokens, self.ranks.share
        return on_device(epoch.batches(self.step, tokens, share), self.device)

    def _backward(self, part: Batch, n_in_batch: int) -> torch.Tensor:
        """Add the part's gradients and return its share of the batch's mean loss, the student's."""
        teacher = self.teacher
        with autocast(self.device, self.precision):
            logits = self.model(latest_behaviours(part, self.model.grade.max_len)).float()
            taught = None if teacher is None else teacher.logits(part).float()
        labels, present = part.label, part.present
        if present is not None:
            logits, labels = logits[present], labels[present]
            taught = None if taught is None else taught[present]
        own = _logloss(logits, labels)
        loss = own
        if teacher is not None and taught is not None:
            loss = loss + teacher.lesson(logits, taught)
            if teacher.learner is not None:
                loss = loss + _logloss(taught, labels)
        (loss / n_in_batch).backward()  # type: ignore[no-untyped-call]
        return own.detach() / n_in_batch


def _logloss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")


def _line_every(epoch: Epoch) -> int:
    return max(1, epoch.n_steps // _LOG_LINES)


def predict(
    model: CTRModel,
    store: EventStore,
    max_len: int,
    device: str = "cpu",
    precision: str = "float32",
    beat: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> NDArray[np.float64]:
    """Return the logits of the whole test part, in its order, [n_test]; `beat` is called per batch.

    Several ranks divide the batches among them, and each gets the logits of all.
    """
    model.eval()
    logits = np.zeros(store.n_test)
    positions, batches = tee(iterate_test(store, max_len, tokens_per_part(device), ranks.share))
    parts = on_device(([] if batch is None else [batch] for _, batch in batches), device)
    with torch.inference_mode(), autocast(device, precision):
        for (rows, _), part in zip(positions, parts, strict=True):
            for batch in part:
                logits[rows] = model(batch).double().cpu().numpy()
            beat()
    ranks.add_up(torch.from_numpy(logits))  # zero where another rank has predicted
    return logits


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Treat numbers below 1e-38 as zero: they slow a CPU down a hundredfold and do not matter here."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
