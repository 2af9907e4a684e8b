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
from models.layers import cache_chunks

__all__ = ["DIN", "ActivationUnit", "DINOptions", "Dice", "pool_history"]


# of Dice, as released
_EPS, _MOMENTUM = 1e-9, 0.01


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


class _Dice(torch.autograd.Function):
    """x (alpha + (1 - alpha) p), in chunks of rows that fit into a core's cache on a CPU."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, alpha: Tensor, mean: Tensor, inverse: Tensor, of_batch: bool
    ) -> Tensor:
        p, y = torch.empty_like(x), torch.empty_like(x)
        for rows, gate, out in _all_chunks(x, p, y):
            torch.sub(rows, mean, out=gate).mul_(inverse).sigmoid_()
            torch.addcmul(alpha, gate, 1 - alpha, out=out).mul_(rows)
        ctx.save_for_backward(x, p, alpha, mean, inverse)
        ctx.of_batch = of_batch
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, p, alpha, mean, inverse = ctx.saved_tensors
        to_x, to_normed, rest = torch.empty_like(x), torch.empty_like(x), 1 - alpha
        to_alpha = torch.zeros_like(alpha)
        for rows, gate, grad_rows, out, inner in _all_chunks(x, p, grad, to_x, to_normed):
            torch.addcmul(alpha, gate, rest, out=out).mul_(grad_rows)
            torch.mul(grad_rows, rows, out=inner)
            inner.addcmul_(inner, gate, value=-1)
            to_alpha += inner.sum(0)
            inner.mul_(gate)  # through the sigmoid, without its factor 1 - alpha
        if not ctx.of_batch:
            return to_x.addcmul_(to_normed, rest * inverse), to_alpha, None, None, None
        # the mean and the variance are functions of x, too
        through, _, _ = torch.ops.aten.native_batch_norm_backward(
            to_normed, x, rest, None, None, mean, inverse, True, _EPS, (True, False, False)
        )
        return to_x.add_(through), to_alpha, None, None, None


def _all_chunks(*tensors: Tensor) -> tuple[tuple[Tensor, ...], ...]:
    return tuple(zip(*map(_chunks, tensors), strict=True))


def _chunks(x: Tensor) -> tuple[Tensor, ...]:
    return cache_chunks(x) if x.device.type == "cpu" else (x,)


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
        x_RA = x_RA.to(self.alpha.dtype)  # statistics need full precision
        # one row has no variance; on the meta device, where FLOPs are counted, there is no such operation
        of_batch = self.training and len(x_RA) > 1 and not x_RA.is_meta
        if of_batch:
            # several times as fast as `var_mean` on a CPU
            mean, var = torch.batch_norm_update_stats(
                x_RA.detach(), self.running_mean, self.running_var, _MOMENTUM
            )
        else:
            mean, var = self.running_mean, self.running_var
        y_RA: Tensor = _Dice.apply(x_RA, self.alpha, mean, (var + _EPS).rsqrt(), of_batch)  # type: ignore[no-untyped-call]
        return y_RA


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
        if read_BLM.is_meta:  # which pairs are read is not known: all of them
            pairs = torch.arange(read_BLM.numel(), device="meta")
        else:
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
        read = inputs.seen
        # one gradient of all tokens, where two slices would each have theirs
        history, own = torch.split(inputs.tokens_BND, [inputs.n_history, inputs.n_candidates], 1)
        scores = self.unit(own, history, read)
        pooled = pool_history(scores, history, read, softmax=self.options.softmax)
        if self.options.softmax:
            pooled = pooled * read.any(-1, keepdim=True)
        return pooled
