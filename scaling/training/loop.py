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
from torch.nn.functional import binary_cross_entropy_with_logits

from models.ctr_model import Batch, CTRModel
from models.distillation_loss import latest_behaviours
from scaling.batches import ANY_SHAPE, Epoch, find_groups, iterate_test
from scaling.store import EventStore
from scaling.study import RunConfig
from scaling.training.checkpoint import Checkpoint
from scaling.training.device import (
    autocast,
    compile_blocks,
    few_shapes,
    has_one_part,
    memory_use,
    on_device,
    tokens_per_part,
    uncompiled,
)
from scaling.training.learner import Learner
from scaling.training.ranks import ALONE, Ranks, check_exactness
from scaling.training.sharded_table import ShardedEmbeddings
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
        sharded: bool = False,
        n_cells: int = 1,
    ) -> None:
        self._learner = Learner(config, store, device, ranks=ranks, sharded=sharded)
        self.model = self._learner.model
        self._memory = memory_use(device, config, store.schema, n_cells)
        self.teacher = build_teacher(
            config,
            store,
            device,
            student=self.model,
            folders=teachers,
            ranks=ranks,
            sharded=sharded,
        )
        for model in self._models():
            check_exactness(model, ranks)
            model.encoder.recomputes = self._memory.recomputes
        self._shapes = ANY_SHAPE
        if compiled and device != "cpu":
            self._shapes = few_shapes(config, store.schema, ranks.size)
            graphs = has_one_part(config, self._memory, ranks.size) and not self._memory.recomputes
            for model in self._models():
                compile_blocks(model, device, graphs=graphs)
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
        rows = {name: tensors.pop(name) for name in self.row_names() if name in tensors}
        return Checkpoint(label, self.step, tensors, {**facts, "optimisers": rests}, rows)

    def row_names(self) -> list[str]:
        """Names of a checkpoint's tensors of which each rank holds its share of the rows; none if tables are not divided."""
        pairs = zip(self._learners(), _PREFIXES, strict=False)
        return [name for learner, prefix in pairs for name in learner.row_names(prefix)]

    def load(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint of the same configuration, with this rank's share of the rows of divided tables."""
        tensors = {**checkpoint.tensors, **checkpoint.rows}
        for name in self.row_names():
            if name not in checkpoint.rows and name in tensors:
                tensors[name] = self.ranks.share.of(tensors[name]).clone()
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
            learner.begin_step(factor, self.step)
        for table in self._sharded_tables():
            table.fetch(parts)
        self._see_numeric(parts, n_samples)
        shares = [self._backward(part, n_samples) for part in parts]
        for learner in learners:
            learner.end_step()
        return torch.stack(shares).sum() if shares else torch.zeros((), device=self.device)

    def _learners(self) -> list[Learner]:
        """The student first, then its teacher if the teacher is trained."""
        teacher = None if self.teacher is None else self.teacher.learner
        return [self._learner] if teacher is None else [self._learner, teacher]

    def _models(self) -> list[CTRModel]:
        return [self.model] if self.teacher is None else [self.model, self.teacher.model]

    def _sharded_tables(self) -> list[ShardedEmbeddings]:
        """The divided tables of this training, each once."""
        tables = {id(model.embeddings): model.embeddings for model in self._models()}
        return [table for table in tables.values() if isinstance(table, ShardedEmbeddings)]

    def _batches(self, epoch: Epoch) -> Iterator[list[Batch]]:
        tokens, share = self._memory.tokens, self.ranks.share
        return on_device(epoch.batches(self.step, tokens, share, self._shapes), self.device)

    def _see_numeric(self, parts: list[Batch], n_samples: int) -> None:
        """Normalise the numeric features of a step by the statistics of its whole batch, on all ranks together."""
        found = [model.normalize_numeric for model in self._models() if model.training]
        norms = [norm for norm in found if norm is not None]
        if not norms:
            return
        n_features = norms[0].num_features
        sums = torch.zeros(2, n_features, dtype=torch.float64, device=self.device)
        for part in parts:
            rows = part.numeric.double()
            if part.present is not None:
                rows = rows.masked_fill(~part.present.unsqueeze(-1), 0)
            rows = rows.reshape(-1, n_features)
            sums += torch.stack([rows.sum(0), rows.square().sum(0)])
        sums = self.ranks.add_up(sums)
        for norm in norms:
            norm.see(sums[0], sums[1], n_samples)

    def _backward(self, part: Batch, n_in_batch: int) -> torch.Tensor:
        """Add the part's gradients and return its share of the batch's mean loss, the student's."""
        teacher = self.teacher
        with autocast(self.device, self.precision):
            logits = self.model(latest_behaviours(part, self.model.grade.max_len)).float()
            taught = None if teacher is None else teacher.logits(part).float()
        labels, counted = part.label, None
        if part.present is not None:
            # a choice of entries would make the host wait for a GPU, to know how many they are
            counted, absent = part.present.to(labels.dtype), ~part.present
            logits = logits.masked_fill(absent, 0)
            taught = None if taught is None else taught.masked_fill(absent, 0)
        own = _logloss(logits, labels, counted)
        loss = own
        if teacher is not None and taught is not None:
            loss = loss + teacher.lesson(logits, taught, counted)
            if teacher.learner is not None:
                loss = loss + _logloss(taught, labels, counted)
        (loss / n_in_batch).backward()  # type: ignore[no-untyped-call]
        return own.detach() / n_in_batch


def _logloss(
    logits: torch.Tensor, labels: torch.Tensor, counted: torch.Tensor | None
) -> torch.Tensor:
    return binary_cross_entropy_with_logits(logits, labels, counted, reduction="sum")


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
    with torch.inference_mode(), autocast(device, precision), uncompiled(model):
        for (rows, _), part in zip(positions, parts, strict=True):
            if isinstance(model.embeddings, ShardedEmbeddings):
                model.embeddings.fetch(part)
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
