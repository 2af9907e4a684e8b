"""The other parts of SUAN's block: norms, adaptive fusion (AFNet) and feed-forward networks.

Shapes: B batch, N tokens, D token width, P profile features (n2), d feature width, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["AdaptiveFusion", "FeedForward", "ReluFeedForward", "build_norm", "pool_tokens"]

# The release divides by (rms + 1e-6); adding the square inside the root is the same to 1e-6 and has
# a gradient at zero.
_EPS = 1e-12


def build_norm(kind: str, width: int) -> nn.Module:
    """Return RMSNorm (`rms`, gain only) or LayerNorm (`layer`)."""
    return nn.RMSNorm(width, eps=_EPS) if kind == "rms" else nn.LayerNorm(width, eps=1e-6)


class FeedForward(nn.Module):
    """SwiGLU: (silu(x W1 + b1) * (x W2 + b2)) W3 + b3, inner width 3 D (SUAN, UAB step 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_and_up = nn.Linear(width, 2 * 3 * width)  # W1 then W2
        self.down = nn.Linear(3 * width, width)  # W3

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return [B, N, D]."""
        gate, up = self.gate_and_up(x_BND).chunk(2, -1)
        y_BND: Tensor = self.down(F.silu(gate) * up)
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
        stands for the running mean over valid tokens, see `pool_tokens`.
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


def pool_tokens(kind: str, valid_BN: Tensor, dtype: torch.dtype, *, candidate: bool) -> Tensor:
    """Return the weights of the alignment mean, [B, N], or [B, N, N] for a running mean.

    `valid_BN` marks the tokens that are not padding; with `candidate` the last one is the candidate,
    which a mean over `behaviours` leaves out. Rows without a token to average are zero.
    """
    batch, n_tokens = valid_BN.shape
    if kind == "all":
        return torch.full((batch, n_tokens), 1 / n_tokens, dtype=dtype, device=valid_BN.device)
    weights = valid_BN.to(dtype)
    if kind == "running":
        prefix = torch.tril(weights[:, None, :].expand(-1, n_tokens, -1))
        return prefix / prefix.sum(-1, keepdim=True).clamp(min=1)
    if candidate:
        weights = torch.cat([weights[:, :-1], torch.zeros_like(weights[:, -1:])], 1)
    return weights / weights.sum(-1, keepdim=True).clamp(min=1)
