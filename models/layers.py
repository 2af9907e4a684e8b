"""The other parts of SUAN's block: norms, adaptive fusion (AFNet) and feed-forward networks.

Shapes: B batch, N tokens, D token width, P profile features (n2), d feature width, H heads.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["AdaptiveFusion", "FeedForward", "ReluFeedForward", "build_norm"]

# The release divides by (rms + 1e-6); adding the square inside the root is the same to 1e-6 and has
# a gradient at zero.
_EPS = 1e-12


def build_norm(kind: str, width: int) -> nn.Module:
    """Return RMSNorm (`rms`, gain only) or LayerNorm (`layer`)."""
    return RMSNorm(width) if kind == "rms" else nn.LayerNorm(width, eps=1e-6)


class _RMSNorm(torch.autograd.Function):
    """x / rms(x) * gain in few passes over memory: torch's own is a chain of seven on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = norm.square_().div_(x.shape[-1]).add_(_EPS).rsqrt_()
        unit = x * inverse
        ctx.save_for_backward(unit, inverse, gain)
        y: Tensor = unit * gain
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        unit, inverse, gain = ctx.saved_tensors
        width = gain.shape[0]
        products = (grad * unit).view(-1, width)
        mean = torch.mv(products, gain).view_as(inverse) / width
        grad_x = (grad * gain).addcmul_(unit, mean, value=-1).mul_(inverse)
        return grad_x, products.sum(0)


class RMSNorm(nn.Module):
    """Root-mean-square norm with a gain and no shift (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return x of the same shape, normed over its last dimension."""
        y: Tensor = _RMSNorm.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return y


class _GatedSilu(torch.autograd.Function):
    """silu(g) * u for [g, u] stored side by side; the gradient is written in place, not concatenated."""

    @staticmethod
    def forward(ctx: Any, gate_and_up: Tensor) -> Tensor:
        gate, up = gate_and_up.chunk(2, -1)
        activated = F.silu(gate)
        ctx.save_for_backward(gate_and_up, activated)
        return activated * up

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        gate_and_up, activated = ctx.saved_tensors
        gate, up = gate_and_up.chunk(2, -1)
        out = torch.empty_like(gate_and_up)
        grad_gate, grad_up = out.chunk(2, -1)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
        torch.mul(grad, activated, out=grad_up)
        return out


class FeedForward(nn.Module):
    """SwiGLU: (silu(x W1 + b1) * (x W2 + b2)) W3 + b3, inner width 3 D (SUAN, UAB step 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_and_up = nn.Linear(width, 2 * 3 * width)  # W1 then W2
        self.down = nn.Linear(3 * width, width)  # W3

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return [B, N, D]."""
        hidden = _GatedSilu.apply(self.gate_and_up(x_BND))  # type: ignore[no-untyped-call]
        y_BND: Tensor = self.down(hidden)
        return y_BND


class ReluFeedForward(nn.Module):
    """relu(x W1 + b1) W2 + b2, inner width 3 D: the paper's ablation of SwiGLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 3 * width)
        self.down = nn.Linear(3 * width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return [B, N, D]."""
        y_BND: Tensor = self.down(F.relu(self.up(x_BND)))
        return y_BND


class AdaptiveFusion(nn.Module):
    """AFNet: cross-attention from the sequence S to the profile, then dual alignment of S and C.

    The profile has few features, so its keys are multiplied into the query's weights and its values
    into the output's weights: H * n2 columns per sample replace two D x D products per token. The
    result is the same product of matrices in another order. C itself is never formed.
    """

    def __init__(self, width: int, d: int, n_heads: int, kind: str) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(d, width, bias=False)
        self.v = nn.Linear(d, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.squeeze = self.weigh_sequence = self.weigh_profile = None
        if kind == "dual":
            inner = max(1, width // 4)
            self.squeeze = nn.Linear(width, inner, bias=False)  # W1
            self.weigh_sequence = nn.Linear(inner, width, bias=False)  # Wa
            self.weigh_profile = nn.Linear(inner, width, bias=False)  # Wb

    def forward(
        self, s_BND: Tensor, profile_BPd: Tensor, pool_BN: Tensor | None, n_out: int
    ) -> Tensor:
        """Return the fused sequence for the last `n_out` tokens, [B, n_out, D].

        `pool_BN` holds the weights of the alignment mean (they sum to one, or are all zero); None
        stands for no mean at all (plain sum); see `models.tokens.Layout.pool`.
        """
        attention_BNK, value_BKD = self._attend(s_BND, profile_BPd)
        s_out, attention_out = s_BND[:, -n_out:], attention_BNK[:, -n_out:]
        if self.squeeze is None or self.weigh_sequence is None or self.weigh_profile is None:
            return torch.baddbmm(s_out, attention_out, value_BKD)
        assert pool_BN is not None
        pool_BQN = pool_BN.unsqueeze(1) if pool_BN.dim() == 2 else pool_BN
        z_BQD = torch.baddbmm(
            torch.bmm(pool_BQN, s_BND), torch.bmm(pool_BQN, attention_BNK), value_BKD
        )
        hidden = F.relu(self.squeeze(z_BQD))
        # a softmax over the pair (a, b) is a sigmoid of a - b
        weight_BQD = torch.sigmoid(
            F.linear(hidden, self.weigh_sequence.weight - self.weigh_profile.weight)
        )
        if pool_BN.dim() == 2:
            return torch.baddbmm(s_out * weight_BQD, attention_out, value_BKD * (1 - weight_BQD))
        c_BND = torch.bmm(attention_out, value_BKD)
        return torch.lerp(c_BND, s_out, weight_BQD[:, -n_out:])

    def _attend(self, s_BND: Tensor, profile_BPd: Tensor) -> tuple[Tensor, Tensor]:
        """Return attention weights [B, N, H P] and values carried to the output [B, H P, D]."""
        batch, n_profile, _ = profile_BPd.shape
        width = s_BND.shape[-1]
        heads = (self.n_heads, width // self.n_heads)
        # [H, B P, E] each
        key = self.k(profile_BPd).view(batch * n_profile, *heads).transpose(0, 1)
        value = self.v(profile_BPd).view(batch * n_profile, *heads).transpose(0, 1)
        # the release scales by the number of profile features, not by the head's width
        query = self.q.weight.view(*heads, width) * n_profile**-0.5
        into_BHPD = (
            torch.bmm(key, query).view(self.n_heads, batch, n_profile, width).transpose(0, 1)
        )
        output = self.out.weight.t().reshape(*heads, width)
        value_BHPD = (
            torch.bmm(value, output).view(self.n_heads, batch, n_profile, width).transpose(0, 1)
        )
        logits_BNK = torch.bmm(s_BND, into_BHPD.reshape(batch, -1, width).transpose(1, 2))
        logits = logits_BNK.view(batch, -1, self.n_heads, n_profile)
        return torch.softmax(logits, -1).view_as(logits_BNK), value_BHPD.reshape(batch, -1, width)
