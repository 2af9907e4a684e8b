"""DIN (Zhou et al., KDD '18, arXiv 1706.06978): target attention over the history.

With a candidate t and a behaviour h, a = MLP([t, h, t - h, t * h]) is a number without a softmax (paper, section 4.3), and
the output is the sum of a h. The MLP's activation is Dice (equations 3 and 4).

Published (released code): layers of 80, 40 and 1 units over 512 inputs; FuxiCTR: 64 and 1 over 160.

Grade rule: `n_layers` hidden layers of 2 D units, then one of D units. `n_heads` and `max_len` change no weight.

Departures: the paper's outer product is t * h, as in all public code. Dice's statistics cover the pairs that are read, not
padding, so that padding changes nothing.

Shapes: B passes, M candidates, L behaviours, D token width, A units, R pairs that are read.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention import MASKED
from models.encoder import Encoder, EncoderInput, Packing
from models.grades import Grade
from models.input_schema import InputSchema

__all__ = ["DIN", "ActivationUnit", "DINOptions", "Dice", "pool_history"]


@dataclass(frozen=True)
class DINOptions:
    """Variations of DIN; the defaults are the paper's.

    Attributes:
        activation: of the attention's network.
        softmax: weights of a history sum to one; the paper's need not.
    """

    activation: Literal["dice", "relu"] = "dice"
    softmax: bool = False

    def __post_init__(self) -> None:
        if self.activation not in ("dice", "relu"):
            raise ValueError(f"activation is {self.activation!r}, expected 'dice' or 'relu'")


class Dice(nn.Module):
    """x (p + alpha (1 - p)) with p = sigmoid of the normalised x (DIN, equation 3)."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x_RA: Tensor) -> Tensor:
        """Return [R, A]; in training the statistics are those of the R rows."""
        normed = F.batch_norm(
            x_RA,
            self.running_mean,
            self.running_var,
            training=self.training and len(x_RA) > 1,  # one row has no variance
            momentum=0.01,
            eps=1e-9,
        )
        gate = torch.sigmoid(normed)
        return x_RA * (self.alpha + (1 - self.alpha) * gate)


class ActivationUnit(nn.Module):
    """MLP([t, h, t - h, t * h]), one number for each pair of a candidate and a behaviour."""

    def __init__(self, width: int, hidden: tuple[int, ...], activation: str) -> None:
        super().__init__()
        self.first = nn.Linear(4 * width, hidden[0])
        rest: list[nn.Module] = []
        for n_in, n_out in zip(hidden, (*hidden[1:], 1), strict=True):
            rest += [Dice(n_in) if activation == "dice" else nn.ReLU(), nn.Linear(n_in, n_out)]
        self.rest = nn.Sequential(*rest)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, target_BMD: Tensor, history_BLD: Tensor, read_BML: Tensor) -> Tensor:
        """Return the scores [B, M, L]; zero for pairs that are not read."""
        read_BLM = read_BML.transpose(1, 2)
        pairs = read_BLM.reshape(-1).nonzero().squeeze(1)
        if 2 * len(pairs) < read_BLM.numel():
            hidden_RA = self._first_of_pairs(target_BMD, history_BLD, pairs)
        else:
            hidden_RA = self._first_of_all(target_BMD, history_BLD)
            if len(pairs) < len(hidden_RA):
                hidden_RA = hidden_RA.index_select(0, pairs)
        scores: Tensor = self.rest(hidden_RA).squeeze(1)
        if len(pairs) < read_BLM.numel():
            scores = scores.new_zeros(read_BLM.numel()).index_copy(0, pairs, scores)
        return scores.view(read_BLM.shape).transpose(1, 2)

    def _first_of_all(self, target_BMD: Tensor, history_BLD: Tensor) -> Tensor:
        """Return the first layer [B L M, A] as one product per pass: t * h enters as a weight diag(t)."""
        of_target, of_history, of_gap, of_product = self.first.weight.chunk(4, 1)
        own = F.linear(target_BMD, of_target + of_gap, self.first.bias).flatten(1)
        weight = torch.addcmul(of_history - of_gap, of_product, target_BMD.unsqueeze(2))
        x = torch.baddbmm(own.unsqueeze(1), history_BLD, weight.flatten(1, 2).mT)
        return x.view(-1, len(of_target))

    def _first_of_pairs(self, target_BMD: Tensor, history_BLD: Tensor, pairs: Tensor) -> Tensor:
        """Return the first layer [R, A] of some pairs, indices into [B, L, M]."""
        of_target, of_history, of_gap, of_product = self.first.weight.chunk(4, 1)
        n_candidates = target_BMD.shape[1]
        of_pass = pairs // (n_candidates * history_BLD.shape[1])
        targets = of_pass * n_candidates + pairs % n_candidates
        own = F.linear(target_BMD, of_target + of_gap, self.first.bias)
        t = target_BMD.flatten(0, 1).index_select(0, targets)
        h = history_BLD.flatten(0, 1).index_select(0, pairs // n_candidates)
        x = own.flatten(0, 1).index_select(0, targets)
        return torch.addmm(x, h, (of_history - of_gap).t()).addmm(t * h, of_product.t())


def pool_history(
    scores_BML: Tensor, history_BLD: Tensor, read_BML: Tensor, *, softmax: bool
) -> Tensor:
    """Return the sum of the history weighted by the scores, [B, M, D].

    With `softmax`, a candidate that reads nothing gets equal weights.
    """
    if softmax:
        weights = torch.softmax(scores_BML.masked_fill(~read_BML, MASKED), -1)
    else:
        weights = scores_BML * read_BML
    return weights @ history_BLD


class DIN(Encoder):
    """The history as the candidate sees it, [B, M, D]; zero without a history."""

    options_type = DINOptions

    def __init__(self, grade: Grade, options: DINOptions, schema: InputSchema) -> None:
        super().__init__(grade, options, schema)
        self.n_out = width = grade.d * len(schema.behaviour)
        hidden = (2 * width,) * grade.n_layers + (width,)
        self.unit = ActivationUnit(width, hidden, options.activation)

    @classmethod
    def packing(cls, options: Any) -> tuple[Packing, ...]:
        """Both: a candidate reads behaviours without their order or time."""
        return ("request", "stretch")

    def forward(self, inputs: EncoderInput) -> Tensor:
        """Return [B, M, D]."""
        history, read = inputs.history_BLD, inputs.seen
        scores = self.unit(inputs.candidate_BMD, history, read)
        pooled = pool_history(scores, history, read, softmax=self.options.softmax)
        if self.options.softmax:
            pooled = pooled * read.any(-1, keepdim=True)
        return pooled
