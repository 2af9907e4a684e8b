"""Adaptive fusion (AFNet) of SUAN's block: the profile joins the sequence.

Shapes: B batch, N tokens, M of them returned, D token width, P profile features (n2), d feature width,
H heads, K = P H.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention import RunningMean
from models.layers import ELEMENTS_IN_CACHE, in_cache, last_tokens

__all__ = ["AdaptiveFusion"]


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
            # gradient of the pooled mean: all tokens; gradient of the fused tokens: only the last ones
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
    """Samples in chunks that fit into a core's cache."""
    size = max(1, ELEMENTS_IN_CACHE // x_BND[0].numel())
    return [slice(first, first + size) for first in range(0, len(x_BND), size)]


def _profile_weights(s_BND: Tensor, key_BPHD: Tensor) -> Tensor:
    """Softmax over the profile's features for each head and token, [B, P H, N]."""
    logits_BKN = torch.bmm(key_BPHD.flatten(1, 2), s_BND.mT)
    by_feature = logits_BKN.view(len(s_BND), key_BPHD.shape[1], -1, s_BND.shape[1])
    return torch.softmax(by_feature, 1).view_as(logits_BKN)


class AdaptiveFusion(nn.Module):
    """AFNet: cross-attention from the sequence S to the profile, then dual alignment of S and C.

    The profile has few features, so its keys are multiplied by the query weights first, and its values by
    the output weights: H * n2 columns per sample replace two D x D products per token. The
    result is the same matrix product in another order.
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
        for no mean at all (plain sum); see `models.attention.layout.Layout.pool`.
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
        """Return the profile's keys and values, mapped to the token width, [B, P, H, D] each."""
        # the release scales by the number of profile features, not by the head width
        scale = profile_BPd.shape[1] ** -0.5
        key_BPHD = self._carry(profile_BPd, self.k.weight, self.q.weight) * scale
        return key_BPHD, self._carry(profile_BPd, self.v.weight, self.out.weight.t())

    def attend(self, s_BND: Tensor, key_BPHD: Tensor, value_BPHD: Tensor) -> Tensor:
        """Return the cross-attention's output C [B, N, D]."""
        return torch.bmm(_profile_weights(s_BND, key_BPHD).mT, value_BPHD.flatten(1, 2))

    def gate(self, z_BMD: Tensor) -> Tensor:
        """Return the weight of S relative to C for the means z of S + C, with the shape of z."""
        assert self.squeeze is not None
        return torch.sigmoid(F.linear(F.relu(self.squeeze(z_BMD)), self._weigh()))

    def _weigh(self) -> Tensor:
        """A softmax over the pair (a, b) is a sigmoid of a - b."""
        assert self.weigh_sequence is not None
        assert self.weigh_profile is not None
        return self.weigh_sequence.weight - self.weigh_profile.weight

    def _carry(self, profile_BPd: Tensor, into: Tensor, onto: Tensor) -> Tensor:
        """Multiply the profile by `into` [D, d] and by each head's rows of `onto` [D, D]: [B, P, H, D]."""
        heads = (self.n_heads, len(into) // self.n_heads)
        product_HdD = torch.bmm(
            into.view(*heads, into.shape[1]).mT, onto.reshape(*heads, onto.shape[1])
        )
        weight = product_HdD.transpose(0, 1).flatten(1)
        return (profile_BPd.flatten(0, 1) @ weight).view(*profile_BPd.shape[:2], self.n_heads, -1)
