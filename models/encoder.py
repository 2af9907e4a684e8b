"""The protocol of encoders: what any model of the ladder gets, gives and declares.

An encoder is the part of a model between the embeddings and the head: it reads embedded behaviours and candidates and
returns one vector per candidate. Embeddings, head, training and scoring are the same for all encoders.

Shapes: B passes, M candidates, L behaviours, n1 behaviour features, P profile features, d embedding width,
D = n1 d token width, C width of a candidate's own features.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from models.grades import Grade
from models.input_schema import InputSchema

__all__ = ["Encoder", "EncoderInput", "Packing"]


Packing = Literal["request", "stretch"]


@dataclass(frozen=True)
class EncoderInput:
    """What an encoder reads of B passes; behaviours are oldest first and padded on the left.

    Attributes:
        tokens_BND: embedded behaviours, zero where padded; after them the candidates in the slots of a behaviour, [B, L + M, D].
            A slot that candidates lack is zero. `history_BLD` and `candidate_BMD` are its parts.
        own_BMC: embeddings of all candidate and context features, side by side.
        profile_BPd: embeddings of the user's features.
        times: unix seconds of behaviours and, last, of the requests, int64 [B, L + M].
        hours: hour of the day plus one of the same, int64 [B, L + M]; 0 where padded.
        lengths: valid behaviours, int64 [B].
        token_ids: rows of the embedding table that `tokens_BND` holds, int64 [B, L + M, n1]; 0 where padded. Two are equal
            where a behaviour and a candidate have a value in common. Of a cell with several values it is the first one's.
            `history_ids` and `candidate_ids` are its parts.
        n_candidates: M.
        ends: [B, M] columns of the history before each candidate's request, if the pass covers a stretch of a user's log;
            None: all of them.
        present: bool [B, M], False where a pass has fewer candidates; None: no candidate is missing.
    """

    tokens_BND: Tensor
    own_BMC: Tensor
    profile_BPd: Tensor
    times: Tensor
    hours: Tensor
    lengths: Tensor
    token_ids: Tensor
    n_candidates: int
    ends: Tensor | None = None
    present: Tensor | None = None

    @property
    def n_history(self) -> int:
        """L, the columns of the longest history."""
        return self.times.shape[1] - self.n_candidates

    @property
    def history_BLD(self) -> Tensor:
        """The embedded behaviours, [B, L, D]."""
        return self.tokens_BND[:, : self.n_history]

    @property
    def candidate_BMD(self) -> Tensor:
        """The embedded candidates, [B, M, D]."""
        return self.tokens_BND[:, self.n_history :]

    @property
    def history_ids(self) -> Tensor:
        """Rows of the embedding table that `history_BLD` holds, int64 [B, L, n1]."""
        return self.token_ids[:, : self.n_history]

    @property
    def candidate_ids(self) -> Tensor:
        """Rows of the embedding table that `candidate_BMD` holds, int64 [B, M, n1]."""
        return self.token_ids[:, self.n_history :]

    @cached_property
    def valid(self) -> Tensor:
        """Which behaviours are not padding, bool [B, L]."""
        return self._columns >= (self.n_history - self.lengths)[:, None]

    @cached_property
    def seen(self) -> Tensor:
        """Which behaviours a candidate may read, bool [B, M, L]: valid and before its request.

        A candidate that is not present reads none.
        """
        seen = self.valid[:, None, :].expand(-1, self.n_candidates, -1)
        if self.ends is not None:
            seen = seen & (self._columns < self.ends[:, :, None])
        if self.present is not None:
            seen = seen & self.present[:, :, None]
        return seen

    @property
    def _columns(self) -> Tensor:
        return torch.arange(self.n_history, device=self.lengths.device)


class Encoder(nn.Module, ABC):
    """The base of all encoders.

    A subclass sets `options_type` and, in its constructor, `n_out`; it implements `forward`, and overrides `packing`
    and `encodes_once` where they hold. It computes all its sizes from the grade and the schema.

    Attributes:
        options_type: a frozen dataclass of the encoder's options; its `__post_init__` refuses wrong values with a
            ValueError that names the option, its value and what was expected.
        n_out: width of the vector per candidate.
        packing_needs: which options packing needs, for the message where it is refused.
        tables: names of the parameters that are looked up by row; they count as embedding parameters.
        reads_tokens: whether it reads behaviours and candidates as tokens; otherwise none are looked up.
        recomputes: whether blocks are computed again in the backward pass, where memory is short; SUAN does.
        dropout_generator: draws dropout masks; None uses torch's global generator. Checkpoints hold its state, but not that of
            torch's own, which `nn.Dropout` uses.
    """

    options_type: ClassVar[type[Any]]
    packing_needs: ClassVar[str] = "it can only be trained without packing"
    tables: ClassVar[tuple[str, ...]] = ()
    reads_tokens: ClassVar[bool] = True
    n_out: int

    def __init__(self, grade: Grade, options: Any, schema: InputSchema) -> None:
        super().__init__()
        if not isinstance(options, self.options_type):
            raise TypeError(
                f"{type(self).__name__}: options are {type(options).__name__}, "
                f"expected {self.options_type.__name__}"
            )
        self.grade, self.options = grade, options
        self.dropout_generator: torch.Generator | None = None
        self.recomputes = False

    @classmethod
    def packing(cls, options: Any) -> tuple[Packing, ...]:
        """Return which packed passes give the same outputs as one pass for each candidate.

        `request`: all candidates of a pass share history and time; `stretch`: each has its own end of the history.
        """
        return ()

    @classmethod
    def encodes_once(cls, options: Any) -> bool:
        """Whether the history is encoded without the candidate, so that candidates of a request share this work."""
        return False

    def apply_dropout(self, x: Tensor, rate: float) -> Tensor:
        """Set a share `rate` of the values to 0 in training, and scale the others, so that the mean stays."""
        if not self.training or rate == 0:
            return x
        keep = torch.rand(x.shape, generator=self.dropout_generator, device=x.device) >= rate
        return x * keep / (1 - rate)

    def parts_to_compile(self) -> tuple[nn.Module, ...]:
        """Return the modules that a GPU may run compiled, one by one."""
        return (self,)

    @abstractmethod
    def forward(self, inputs: EncoderInput) -> Tensor:
        """Return one vector for each candidate, [B, M, n_out]; any values where a candidate is not present."""
