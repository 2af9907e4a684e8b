"""The teacher of a distilled run: a second model that is trained with the student or stays frozen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.ctr_model import Batch, CTRModel
from models.distillation_loss import distillation_loss, latest_behaviours
from models.kinds import read_options
from models.model_options import SuanOptions
from scaling.batches import Epoch, find_groups
from scaling.errors import UserError
from scaling.records import MODEL_FILE, RunStore
from scaling.store import EventStore
from scaling.study import Distillation, RunConfig
from scaling.training.learner import Learner
from scaling.training.ranks import ALONE, Ranks
from scaling.training.saved_model import read_model
from scaling.training.sharded_table import ShardedEmbeddings

__all__ = ["Teacher", "build_teacher", "samples_before"]


class Teacher:
    """A model that a student follows.

    Attributes:
        learner: its optimisers and training state; None if it is frozen.
    """

    def __init__(self, model: CTRModel, settings: Distillation, learner: Learner | None) -> None:
        self.model, self.learner, self._settings = model, learner, settings

    def logits(self, batch: Batch) -> Tensor:
        """Its predictions; with a gradient if it is trained."""
        batch = latest_behaviours(batch, self.model.grade.max_len)
        if self.learner is None:
            with torch.no_grad():
                return self.model(batch)  # type: ignore[no-any-return]
        return self.model(batch)  # type: ignore[no-any-return]

    def lesson(self, student: Tensor, teacher: Tensor, counted: Tensor | None = None) -> Tensor:
        """The distillation term, summed over the logits, each `counted` times; None: once."""
        settings = self._settings
        return distillation_loss(
            student,
            teacher,
            weight=settings.weight,
            temperature=settings.temperature,
            counted=counted,
        )


def build_teacher(
    config: RunConfig,
    store: EventStore,
    device: str,
    *,
    student: CTRModel,
    folders: Sequence[Path] = (),
    ranks: Ranks = ALONE,
    sharded: bool = False,
) -> Teacher | None:
    """Return the teacher that `config` names, before the first step; None if it names none.

    Args:
        config: the distilled run's.
        store: the data.
        device: of torch.
        student: the model whose feature table it may share.
        folders: folders in which to look for the run that it starts from.
        ranks: the processes that train it together.
        sharded: whether they divide the feature tables.

    Raises:
        UserError: the run that it starts from has no saved model, or one with other features.
    """
    settings, alone = config.distill, config.teacher_alone
    if settings is None or alone is None:
        return None
    model = None
    if settings.teacher_init is not None:
        model = _kept_model(settings, store, "cpu" if sharded else device, folders)
    if model is not None and sharded:
        rows = ranks.share.of(model.embeddings.weight.detach()).clone()
        model.embeddings = ShardedEmbeddings(store.schema, rows, ranks)
        model.to(device)
    if model is not None and settings.is_frozen:
        return Teacher(model.requires_grad_(False), settings, None)
    if settings.share_embeddings and model is not None:
        student.embeddings.load_state_dict(model.embeddings.state_dict())
    learner = Learner(
        alone,
        store,
        device,
        model=model,
        table_of=student if settings.share_embeddings else None,
        ranks=ranks,
        sharded=sharded,
    )
    return Teacher(learner.model, settings, learner)


def samples_before(epoch: Epoch, store: EventStore, folders: Sequence[Path]) -> tuple[int, int]:
    """Return how many impressions the teacher was trained on before, and how many of those are not in this epoch."""
    settings = epoch.config.distill
    if settings is None or settings.teacher_init is None:
        return 0, 0
    folder = _run_folder(settings.teacher_init, folders)
    before = RunStore(folder.parent).read(settings.teacher_init).config
    rows = Epoch(before, store, find_groups(before, store)).rows()
    return len(rows), len(np.setdiff1d(rows, epoch.rows(), assume_unique=True))


def _kept_model(
    settings: Distillation, store: EventStore, device: str, folders: Sequence[Path]
) -> CTRModel:
    folder = _run_folder(settings.teacher_init or "", folders)
    model, schema = read_model(folder, device)
    if schema != store.schema or list(schema.vocabularies) != list(store.schema.vocabularies):
        raise UserError(
            f"{folder}: the teacher was trained on features that differ from those of {store.path}"
        )
    expected = read_options(settings.model)
    if isinstance(expected, SuanOptions):
        expected = expected.on(schema)
    if (model.grade, model.options) != (settings.teacher, expected):
        raise UserError(f"{folder}: its model is not {settings.teacher_name}")
    return model


def _run_folder(signature: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if (folder / signature / MODEL_FILE).exists():
            return folder / signature
    raise UserError(
        f"teacher_init: no saved model of run {signature} in "
        f"{', '.join(map(str, folders)) or 'no given folder'}; train it with [run] keep_model = true"
    )
