"""The other parts of SUAN's block: norms, adaptive fusion (AFNet) and feed-forward networks.

Shapes: B batch, N tokens, D token width, P profile features (n2), d feature width, H heads.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.tokens import RunningMean

__all__ = [
    "AdaptiveFusion",
    "FeedForward",
    "ReluFeedForward",
    "build_norm",
    "in_cache",
    "last_tokens",
]

# The release divides by (rms + 1e-6); adding the square inside the root is the same to 1e-6 and has
# a gradient at zero.
_EPS = 1e-12

# Of a tensor [rows, D] that is worked on chunk by chunk; a quarter to twice as many are equally fast.
_ELEMENTS_IN_CACHE = 80_000


def build_norm(kind: str, width: int) -> nn.Module:
    """Return RMSNorm (`rms`, gain only) or LayerNorm (`layer`)."""
    return RMSNorm(width) if kind == "rms" else nn.LayerNorm(width, eps=1e-6)


def in_cache(x: Tensor) -> bool:
    """Whether to work chunk by chunk with our own gradients: what a CPU core wants.

    A GPU and mixed precision get torch's own operations, which its compiler fuses.
    """
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def last_tokens(x_BND: Tensor, n: int) -> Tensor:
    """The last `n` tokens; a slice of all of them would cost the backward two passes over memory."""
    return x_BND if n == x_BND.shape[1] else x_BND[:, -n:]


def cache_chunks(x: Tensor) -> tuple[Tensor, ...]:
    """Rows of x [..., D] in chunks that a core's cache holds with their hidden layer."""
    flat = x.reshape(-1, x.shape[-1])
    return torch.split(flat, max(_ELEMENTS_IN_CACHE // x.shape[-1], 1))


class _RMSNorm(torch.autograd.Function):
    """x / rms(x) * gain: torch's own is a chain of seven passes over memory on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        inverses = []
        for rows, out in zip(cache_chunks(x), cache_chunks(y), strict=True):
            norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
            inverse = norm.square_().div_(x.shape[-1]).add_(_EPS).rsqrt_()
            torch.mul(rows, inverse, out=out).mul_(gain)
            inverses.append(inverse)
        ctx.save_for_backward(x, gain, *inverses)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, gain, *inverses = ctx.saved_tensors
        grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        grad_gain = torch.zeros_like(gain)
        pieces = zip(
            cache_chunks(x), cache_chunks(grad), cache_chunks(grad_x), inverses, strict=True
        )
        for rows, grad_rows, out, inverse in pieces:
            unit = rows * inverse
            products = grad_rows * unit
            grad_gain += products.sum(0)
            mean = torch.mv(products, gain).unsqueeze_(1).div_(len(gain))
            torch.mul(grad_rows, gain, out=out).addcmul_(unit, mean, value=-1).mul_(inverse)
        return grad_x, grad_gain


class RMSNorm(nn.Module):
    """Root-mean-square norm with a gain and no shift (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return x of the same shape, normed over its last dimension."""
        if not in_cache(x):
            return F.rms_norm(x, x.shape[-1:], self.weight, _EPS)
        y: Tensor = _RMSNorm.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return y


class _SwiGLU(torch.autograd.Function):
    """stream + (silu(x Wg + bg) * (x Wu + bu)) W3 + b3, a few thousand tokens at a time.

    So many fit into a core's cache between one pass and the next; gate and up lie apart, so that
    each pass is contiguous.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        stream: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        down: Tensor,
        down_bias: Tensor,
    ) -> Tensor:
        (gate_weight, up_weight), (gate_bias, up_bias) = weight.chunk(2), bias.chunk(2)
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        saved = []
        chunks = cache_chunks(x)
        streams = (down_bias,) * len(chunks) if stream is None else cache_chunks(stream)
        for rows, out_rows, added in zip(chunks, cache_chunks(out), streams, strict=True):
            gate = torch.addmm(gate_bias, rows, gate_weight.t())
            up = torch.addmm(up_bias, rows, up_weight.t())
            activated = F.silu(gate)
            torch.addmm(added, activated * up, down.t(), out=out_rows)
            if stream is not None:
                out_rows += down_bias
            saved += [gate, up, activated]
        ctx.has_stream = stream is not None
        ctx.save_for_backward(x, weight, down, *saved)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, *saved = ctx.saved_tensors
        gate_weight, up_weight = weight.chunk(2)
        grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        grad_weight, grad_down = torch.zeros_like(weight), torch.zeros_like(down)
        grad_bias, grad_down_bias = weight.new_zeros(len(weight)), down.new_zeros(len(down))
        to_gate, to_up = grad_weight.chunk(2)
        to_gate_bias, to_up_bias = grad_bias.chunk(2)
        chunks = zip(cache_chunks(x), cache_chunks(grad), cache_chunks(grad_x), strict=True)
        for number, (rows, grad_out, grad_rows) in enumerate(chunks):
            gate, up, activated = saved[3 * number : 3 * number + 3]
            grad_hidden = grad_out.mm(down)
            grad_up = grad_hidden * activated
            grad_gate = torch.ops.aten.silu_backward(grad_hidden.mul_(up), gate)
            torch.mm(grad_gate, gate_weight, out=grad_rows).addmm_(grad_up, up_weight)
            to_gate.addmm_(grad_gate.t(), rows)
            to_up.addmm_(grad_up.t(), rows)
            grad_down.addmm_(grad_out.t(), activated * up)
            to_gate_bias += grad_gate.sum(0)
            to_up_bias += grad_up.sum(0)
            grad_down_bias += grad_out.sum(0)
        grad_stream = grad if ctx.has_stream else None
        return grad_x, grad_stream, grad_weight, grad_bias, grad_down, grad_down_bias


class FeedForward(nn.Module):
    """SwiGLU: (silu(x W1 + b1) * (x W2 + b2)) W3 + b3, inner width 3 D (SUAN, UAB step 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_and_up = nn.Linear(width, 2 * 3 * width)  # W1 then W2
        self.down = nn.Linear(3 * width, width)  # W3

    def forward(self, x_BND: Tensor, stream_BND: Tensor | None = None) -> Tensor:
        """Return [B, N, D], added to `stream_BND` if that is given."""
        first, last = self.gate_and_up, self.down
        if not in_cache(x_BND):
            gate, up = first(x_BND).chunk(2, -1)
            out: Tensor = last(F.silu(gate) * up)
            return out if stream_BND is None else stream_BND + out
        y_BND: Tensor = _SwiGLU.apply(  # type: ignore[no-untyped-call]
            x_BND, stream_BND, first.weight, first.bias, last.weight, last.bias
        )
        return y_BND


class ReluFeedForward(nn.Module):
    """relu(x W1 + b1) W2 + b2, inner width 3 D: the paper's ablation of SwiGLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 3 * width)
        self.down = nn.Linear(3 * width, width)

    def forward(self, x_BND: Tensor, stream_BND: Tensor | None = None) -> Tensor:
        """Return [B, N, D], added to `stream_BND` if that is given."""
        y_BND: Tensor = self.down(F.relu(self.up(x_BND)))
        return y_BND if stream_BND is None else stream_BND + y_BND


class _DualAlignment(torch.autograd.Function):
    """stream + S g + A V (1 - g): A = softmax(K S') over the features, g = sigmoid(Wd relu(W1 z)).

    z is the pooled mean of S + A V; C = A V itself is never formed. K, V: [B, P, H, D]. Features come
    before tokens in A, [B, P H, N], so that the softmax over a few features runs along the tokens.
    """

    @staticmethod
    def forward(
        ctx: Any,
        s_BND: Tensor,
        stream_BMD: Tensor | None,
        key_BPHD: Tensor,
        value_BPHD: Tensor,
        pool_BN: Tensor,
        squeeze: Tensor,
        weigh: Tensor,
        n_out: int,
    ) -> Tensor:
        outs, saved = [], []
        for samples in _sample_chunks(s_BND):
            s, pool, value = s_BND[samples], pool_BN[samples], value_BPHD[samples].flatten(1, 2)
            weight_BKN = _profile_weights(s, key_BPHD[samples])
            pooled_BK = torch.bmm(weight_BKN, pool.unsqueeze(2)).squeeze(2)
            z_B1D = torch.bmm(pool.unsqueeze(1), s)
            z_BD = torch.baddbmm(z_B1D, pooled_BK.unsqueeze(1), value).squeeze(1)
            hidden = F.relu(F.linear(z_BD, squeeze))
            gate_BD = torch.sigmoid(F.linear(hidden, weigh))
            out = last_tokens(s, n_out) * gate_BD.unsqueeze(1)
            if stream_BMD is not None:
                out += stream_BMD[samples]
            out.baddbmm_(weight_BKN[:, :, -n_out:].mT, value * (1 - gate_BD).unsqueeze(1))
            outs.append(out)
            saved += [weight_BKN, pooled_BK, z_BD, hidden, gate_BD]
        ctx.n_out, ctx.has_stream = n_out, stream_BMD is not None
        ctx.save_for_backward(s_BND, key_BPHD, value_BPHD, pool_BN, squeeze, weigh, *saved)
        return torch.cat(outs)

    @staticmethod
    def backward(ctx: Any, grad_BMD: Tensor) -> tuple[Tensor | None, ...]:
        s_BND, key_BPHD, value_BPHD, pool_BN, squeeze, weigh, *saved = ctx.saved_tensors
        n_out = ctx.n_out
        grad_s_BND = torch.empty_like(s_BND)
        grad_key, grad_value = torch.empty_like(key_BPHD), torch.empty_like(value_BPHD)
        grad_squeeze, grad_weigh = torch.zeros_like(squeeze), torch.zeros_like(weigh)
        for number, samples in enumerate(_sample_chunks(s_BND)):
            weight_BKN, pooled_BK, z_BD, hidden, gate_BD = saved[5 * number : 5 * number + 5]
            grad, s, pool = grad_BMD[samples], s_BND[samples], pool_BN[samples]
            key, value = key_BPHD[samples].flatten(1, 2), value_BPHD[samples].flatten(1, 2)
            rest_BD = 1 - gate_BD
            fused_value = torch.bmm(weight_BKN[:, :, -n_out:], grad)
            grad_gate = (grad * last_tokens(s, n_out)).sum(1) - (fused_value * value).sum(1)
            grad_logit = grad_gate * gate_BD * rest_BD
            grad_hidden = grad_logit.mm(weigh).masked_fill_(hidden == 0, 0)
            grad_z = grad_hidden.mm(squeeze)
            grad_squeeze.addmm_(grad_hidden.t(), z_BD)
            grad_weigh.addmm_(grad_logit.t(), hidden)
            # of the pooled mean, all tokens; of the fused tokens, the last ones only
            grad_weight = torch.bmm(value, grad_z.unsqueeze(2)) * pool.unsqueeze(1)
            grad_weight[:, :, -n_out:] += torch.bmm(value * rest_BD.unsqueeze(1), grad.mT)
            by_feature = weight_BKN.view(len(s), key_BPHD.shape[1], -1, s.shape[1])
            grad_logits = torch._softmax_backward_data(
                grad_weight.view_as(by_feature), by_feature, 1, grad.dtype
            ).view_as(weight_BKN)
            fused_value.mul_(rest_BD.unsqueeze(1))
            fused_value.baddbmm_(pooled_BK.unsqueeze(2), grad_z.unsqueeze(1))
            grad_value[samples] = fused_value.view_as(value_BPHD[samples])
            grad_key[samples] = torch.bmm(grad_logits, s).view_as(key_BPHD[samples])
            grad_s = torch.bmm(pool.unsqueeze(2), grad_z.unsqueeze(1))
            grad_s.baddbmm_(grad_logits.mT, key)
            grad_s[:, -n_out:].addcmul_(grad, gate_BD.unsqueeze(1))
            grad_s_BND[samples] = grad_s
        grad_stream = grad_BMD if ctx.has_stream else None
        return (
            grad_s_BND, grad_stream, grad_key, grad_value, None, grad_squeeze, grad_weigh, None
        )  # fmt: skip


def _sample_chunks(x_BND: Tensor) -> list[slice]:
    """Samples in chunks that a core's cache holds."""
    size = max(1, _ELEMENTS_IN_CACHE // x_BND[0].numel())
    return [slice(first, first + size) for first in range(0, len(x_BND), size)]


def _profile_weights(s_BND: Tensor, key_BPHD: Tensor) -> Tensor:
    """Softmax over the profile's features for each head and token, [B, P H, N]."""
    logits_BKN = torch.bmm(key_BPHD.flatten(1, 2), s_BND.mT)
    by_feature = logits_BKN.view(len(s_BND), key_BPHD.shape[1], -1, s_BND.shape[1])
    return torch.softmax(by_feature, 1).view_as(logits_BKN)


class AdaptiveFusion(nn.Module):
    """AFNet: cross-attention from the sequence S to the profile, then dual alignment of S and C.

    The profile has few features, so its keys are multiplied into the query's weights and its values
    into the output's weights: H * n2 columns per sample replace two D x D products per token. The
    result is the same product of matrices in another order.
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
        self,
        s_BND: Tensor,
        profile_BPd: Tensor,
        pool_BN: Tensor | RunningMean | None,
        n_out: int,
        stream_BND: Tensor | None = None,
    ) -> Tensor:
        """Return the fused sequence for the last `n_out` tokens, [B, n_out, D].

        It is added to `stream_BND` [B, N, D], if that is given. `pool_BN` is the alignment
        mean: its weights, which sum to one or are all zero, or one mean for each token; None stands
        for no mean at all (plain sum); see `models.tokens.Layout.pool`.
        """
        key_BPHD, value_BPHD = self.keys_values(profile_BPd)
        s_BMD = last_tokens(s_BND, n_out)
        stream_BMD = None if stream_BND is None else last_tokens(stream_BND, n_out)
        if self.squeeze is None:
            weight_BKN = _profile_weights(s_BMD, key_BPHD)
            fused = s_BMD + torch.bmm(weight_BKN.mT, value_BPHD.flatten(1, 2))
            return fused if stream_BMD is None else stream_BMD + fused
        assert pool_BN is not None
        if isinstance(pool_BN, Tensor) and in_cache(s_BND):
            aligned: Tensor = _DualAlignment.apply(  # type: ignore[no-untyped-call]
                s_BND,
                stream_BMD,
                key_BPHD,
                value_BPHD,
                pool_BN,
                self.squeeze.weight,
                self._weigh(),
                n_out,
            )
            return aligned
        c_BND = self.attend(s_BND, key_BPHD, value_BPHD)
        if isinstance(pool_BN, Tensor):  # one mean for all tokens, or one for each
            z_BMD = torch.bmm(pool_BN.unsqueeze(1), s_BND + c_BND)
        else:
            z_BMD = last_tokens(pool_BN(s_BND + c_BND), n_out)
        weight_BMD = self.gate(z_BMD)
        c_BMD = last_tokens(c_BND, n_out)
        fused = c_BMD + (s_BMD - c_BMD) * weight_BMD
        return fused if stream_BMD is None else stream_BMD + fused

    def keys_values(self, profile_BPd: Tensor) -> tuple[Tensor, Tensor]:
        """Return the profile's keys, that meet tokens, and values, that join them, [B, P, H, D] each."""
        # the release scales by the number of profile features, not by the head's width
        scale = profile_BPd.shape[1] ** -0.5
        key_BPHD = self._carry(profile_BPd, self.k.weight, self.q.weight) * scale
        return key_BPHD, self._carry(profile_BPd, self.v.weight, self.out.weight.t())

    def attend(self, s_BND: Tensor, key_BPHD: Tensor, value_BPHD: Tensor) -> Tensor:
        """Return the cross-attention's output C [B, N, D]."""
        return torch.bmm(_profile_weights(s_BND, key_BPHD).mT, value_BPHD.flatten(1, 2))

    def gate(self, z_BMD: Tensor) -> Tensor:
        """Return the weight of S against C for the means z of S + C, of the same shape."""
        assert self.squeeze is not None
        return torch.sigmoid(F.linear(F.relu(self.squeeze(z_BMD)), self._weigh()))

    def _weigh(self) -> Tensor:
        """A softmax over the pair (a, b) is a sigmoid of a - b."""
        assert self.weigh_sequence is not None
        assert self.weigh_profile is not None
        return self.weigh_sequence.weight - self.weigh_profile.weight

    def _carry(self, profile_BPd: Tensor, into: Tensor, onto: Tensor) -> Tensor:
        """Carry the profile through `into` [D, d] and each head's rows of `onto` [D, D]: [B, P, H, D]."""
        heads = (self.n_heads, len(into) // self.n_heads)
        product_HdD = torch.bmm(
            into.view(*heads, into.shape[1]).mT, onto.reshape(*heads, onto.shape[1])
        )
        weight = product_HdD.transpose(0, 1).flatten(1)
        return (profile_BPd.flatten(0, 1) @ weight).view(*profile_BPd.shape[:2], self.n_heads, -1)
