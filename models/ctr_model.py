"""The whole model: embeddings of all features, an encoder of history and candidates, the head to one logit.

Shapes: B passes, M candidates, L behaviours, N = L + M tokens, d embedding width, D token width (n1 d).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.embeddings import EMBEDDING_STD, FeatureEmbeddings
from models.encoder import Encoder, EncoderInput
from models.grades import Grade
from models.input_schema import InputSchema
from models.layers import StepNorm

__all__ = ["Batch", "CTRModel"]


# Marks a layer in training that a hook has set to evaluation for one row.
_OF_ONE_ROW = "of_one_row"


@dataclass(frozen=True)
class Batch:
    """Inputs of B passes; behaviours are oldest first and padded on the left.

    A group of features has a column for each id that a cell may hold (`max_values` for each feature, 0 behind the
    last), and behind these the weights of its features with weights (`models.embeddings.weight_columns`).

    A pass scores one candidate, and the M dimension is absent; or it scores M candidates that share a
    history (packed): those of one request, or with `ends` those of a stretch of the user's log.

    Attributes:
        behaviours: ids [B, L, n1], int64, 0 where padded.
        times: unix seconds of behaviours and, last, of the requests, int64 [B, L + M].
        hours: hour of the day plus one (local time) of the same, int64 [B, L + M]; 0 where padded.
        lengths: valid behaviours [B], int64.
        candidate: ids [B, M, nc]. context: ids [B, M, nx]. profile: ids [B, n2].
        numeric: [B, M, nf] float32.
        label: [B, M] float32.
        present: [B, M] bool, False where a packed pass has fewer candidates, or a pass only pads the batch; None: no
            candidate is missing.
        ends: [B, M] columns of the history before each candidate's request; None: all of them.
    """

    behaviours: Tensor
    times: Tensor
    hours: Tensor
    lengths: Tensor
    candidate: Tensor
    context: Tensor
    profile: Tensor
    numeric: Tensor
    label: Tensor
    present: Tensor | None = None
    ends: Tensor | None = None


class Head(nn.Sequential):
    """Layers one after the other; torch's compiler skips the forward pass of `nn.Sequential` itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Return what the last layer returns, [..., 1]."""
        for layer in self:
            x = layer(x)
        return x


class CTRModel(nn.Module):
    """Embeddings, an encoder and the head's network to one logit.

    Attributes:
        encoder: reads history and candidates.
        kind: of the encoder (`models.kinds.KINDS`, or MODULE:CLASS).
        grade: the encoder's sizes.
        options: the encoder's options.
    """

    def __init__(
        self,
        kind: str,
        encoder_type: type[Encoder],
        grade: Grade,
        options: Any,
        schema: InputSchema,
        embeddings: Callable[[InputSchema, int, float], FeatureEmbeddings] = FeatureEmbeddings,
    ) -> None:
        """Build embeddings (with `embeddings`), encoder and head, in this order of random numbers."""
        super().__init__()
        d, self.kind = grade.d, kind
        self.embeddings = embeddings(schema, d, EMBEDDING_STD)
        self.encoder = encoder_type(grade, options, schema)
        self.grade, self.options = grade, self.encoder.options
        self._width = d * len(schema.behaviour)
        names = [feature.name for feature in schema.candidate]
        # index of the candidate feature for each slot of the token; -1: the candidate has no such feature
        self.slots = [names.index(f.name) if f.name in names else -1 for f in schema.behaviour]
        n_flat = len(schema.profile) + len(schema.candidate) + len(schema.context)
        self.normalize_numeric = StepNorm(len(schema.numeric)) if schema.numeric else None
        self.head = Head(
            nn.Linear(self.encoder.n_out + n_flat * d + len(schema.numeric), 16 * d),
            nn.SiLU(),
            nn.Linear(16 * d, 8 * d),
            nn.SiLU(),
            nn.Linear(8 * d, 1),
        )
        for module in self.modules():
            if isinstance(module, _BatchNorm) and not isinstance(module, StepNorm):
                module.register_forward_pre_hook(_one_row_has_no_variance)
                module.register_forward_hook(_statistics_of_the_batch, always_call=True)
        self.register_load_state_dict_pre_hook(_rename_old)  # type: ignore[no-untyped-call]

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits, of the shape of `batch.label`.

        Raises:
            ValueError: a packed batch for options under which packing is not exact.
        """
        if batch.candidate.dim() == 2:
            names = ("candidate", "context", "numeric", "present")
            found = {name: getattr(batch, name) for name in names}
            single = replace(
                batch, **{name: x.unsqueeze(1) for name, x in found.items() if x is not None}
            )
            return self._score(single).squeeze(-1)
        kind = "request" if batch.ends is None else "stretch"
        if kind not in self.encoder.packing(self.options):
            raise ValueError(
                f"{type(self.encoder).__name__}: packing {kind} is not exact with these options: "
                f"{self.encoder.packing_needs}"
            )
        return self._score(batch)

    def _score(self, batch: Batch) -> Tensor:
        """Return the logits [B, M]."""
        embed = self._embed if self.embeddings.plain else self._embed_cells
        tokens_BND, token_ids, profile_BPd, own_BMC = embed(batch)
        inputs = EncoderInput(
            tokens_BND=tokens_BND,
            own_BMC=own_BMC,
            profile_BPd=profile_BPd,
            times=batch.times,
            hours=batch.hours,
            lengths=batch.lengths,
            token_ids=token_ids,
            n_candidates=batch.candidate.shape[1],
            ends=batch.ends,
            present=batch.present,
        )
        return self.predict(self.encoder(inputs), profile_BPd, own_BMC, batch.numeric)

    def _embed(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return `tokens_BND`, `token_ids`, `profile_BPd` and `own_BMC` of an `EncoderInput`."""
        n_batch, n_candidates = batch.candidate.shape[:2]
        rows = self.embeddings.rows
        candidate, profile = rows("candidate", batch.candidate), rows("profile", batch.profile)
        tokens = batch.behaviours[:, :0]
        if self.encoder.reads_tokens:
            tokens = torch.cat([rows("behaviour", batch.behaviours), self.token_rows(candidate)], 1)
        flat = [
            part.flatten(1) for part in (tokens, profile, candidate, rows("context", batch.context))
        ]
        embedded = self.embeddings(torch.cat(flat, 1)).split([part.shape[1] for part in flat], 1)
        own = [part.reshape(n_batch, n_candidates, -1) for part in embedded[2:]]
        tokens_BND = embedded[0].view(n_batch, tokens.shape[1], self._width)
        return tokens_BND, tokens, embedded[1], torch.cat(own, -1)

    def _embed_cells(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same where cells hold several ids, or weights."""
        columns = {
            "behaviour": batch.behaviours,
            "candidate": batch.candidate,
            "context": batch.context,
            "profile": batch.profile,
        }
        if not self.encoder.reads_tokens:
            del columns["behaviour"]
        table = self.embeddings
        embedded = table.pooled(columns)
        own_BMC = torch.cat([embedded["candidate"].flatten(2), embedded["context"].flatten(2)], -1)
        tokens_BND, token_ids = own_BMC[:, :0, : self._width], batch.behaviours[:, :0]
        if self.encoder.reads_tokens:
            of_candidates = self.in_slots(embedded["candidate"]).flatten(2)
            tokens_BND = torch.cat([embedded["behaviour"].flatten(2), of_candidates], 1)
            behaviours, candidates = (
                table.rows(group, columns[group])[..., table.first_columns(group)]
                for group in ("behaviour", "candidate")
            )
            token_ids = torch.cat([behaviours, self.token_rows(candidates)], 1)
        return tokens_BND, token_ids, embedded["profile"], own_BMC

    def in_slots(self, embedded: Tensor) -> Tensor:
        """Arrange the embeddings of candidates [..., nc, d] in the slots of a token, [..., n1, d]."""
        zero = torch.zeros_like(embedded[..., 0, :])
        slots = [embedded[..., slot, :] if slot >= 0 else zero for slot in self.slots]
        return torch.stack(slots, -2)

    def token_rows(self, candidate_rows: Tensor) -> Tensor:
        """Arrange the table rows of candidates [B, M, nc] in the slots of a token, [B, M, n1]."""
        zero = torch.zeros_like(candidate_rows[..., 0])
        slots = [candidate_rows[..., slot] if slot >= 0 else zero for slot in self.slots]
        return torch.stack(slots, -1)

    def predict(
        self, read_BMX: Tensor, profile_BPd: Tensor, own_BMC: Tensor, numeric: Tensor
    ) -> Tensor:
        """Return the logits [B, M] from what the encoder returned.

        Args:
            read_BMX: one vector for each candidate.
            profile_BPd: the user's embeddings.
            own_BMC: the candidates' and the contexts' embeddings, side by side.
            numeric: [B, M, nf].
        """
        shared = profile_BPd.flatten(1).unsqueeze(1).expand(-1, read_BMX.shape[1], -1)
        inputs = [read_BMX, shared, own_BMC]
        if self.normalize_numeric is not None:
            inputs.append(self.normalize_numeric(numeric.flatten(0, 1)).view_as(numeric))
        logits: Tensor = self.head(torch.cat(inputs, -1)).squeeze(-1)
        return logits


def _one_row_has_no_variance(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Let batch normalisation use its running statistics for a single row, as the last part of a batch may be."""
    x = inputs[0]
    if module.training and x.numel() == x.shape[1]:
        module.training = False
        vars(module)[_OF_ONE_ROW] = True


def _statistics_of_the_batch(module: nn.Module, *_: Any) -> None:
    """Return to the state before the hook above."""
    if vars(module).pop(_OF_ONE_ROW, False):
        module.training = True


def _rename_old(model: nn.Module, tensors: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Read the parameters of a SUAN that was saved before it was one encoder of several."""
    parts = ("embeddings", "encoder", "normalize_numeric", "head")
    for name in list(tensors):
        own = name.removeprefix(prefix)
        if name.startswith(prefix) and own.partition(".")[0] not in parts:
            tensors[f"{prefix}encoder.{own}"] = tensors.pop(name)
