"""A straightforward SUAN as the reference for timings: the same model, without any of our optimisations.

One nn.Embedding per vocabulary with dense gradients, the bias looked up with nn.functional.embedding,
torch's scaled_dot_product_attention, every token of every block computed.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.ctr_model import Batch, CTRModel


class PlainSUAN(nn.Module):
    """The paper's options with pooling over behaviours; weights are copied from one of our models."""

    def __init__(self, source: CTRModel, schema) -> None:
        super().__init__()
        grade, self.schema, self.grade = source.grade, schema, source.grade
        self.tables = nn.ModuleDict()
        first = 0
        for name, size in schema.vocabularies.items():
            weight = source.embeddings.weight[first : first + size].detach().clone()
            weight[0] = 0
            self.tables[name] = nn.Embedding.from_pretrained(weight, freeze=False, padding_idx=0)
            first += size - 1
        self.position = nn.Parameter(source.encoder.position.detach().clone())
        self.hour = nn.Embedding.from_pretrained(source.encoder.hour.detach().clone(), freeze=False)
        self.hour_to_token = copy_linear(source.encoder.hour_to_token)
        self.position_bias = nn.Embedding.from_pretrained(
            source.encoder.bias.position.detach()[:, None].clone(), freeze=False
        )
        self.time_bias = nn.Embedding.from_pretrained(
            source.encoder.bias.time.detach()[:, None].clone(), freeze=False
        )
        self.blocks = nn.ModuleList(
            PlainBlock(block, grade.n_heads) for block in source.encoder.blocks
        )
        self.head = nn.Sequential(
            *(copy_linear(m) if isinstance(m, nn.Linear) else nn.SiLU() for m in source.head)
        )

    def forward(self, batch: Batch) -> Tensor:
        def embed(features, ids):
            return [self.tables[f.vocabulary](ids[..., i]) for i, f in enumerate(features)]

        schema = self.schema
        names = [f.name for f in schema.candidate]
        candidate = embed(schema.candidate, batch.candidate)
        zero = torch.zeros_like(candidate[0])
        token = [
            candidate[names.index(f.name)] if f.name in names else zero for f in schema.behaviour
        ]
        history = torch.cat(embed(schema.behaviour, batch.behaviours), -1)
        x = torch.cat([history, torch.cat(token, -1)[:, None]], 1)
        n_tokens = x.shape[1]
        x = x + self.position[-n_tokens:] + self.hour_to_token(self.hour(batch.hours))
        index = torch.arange(n_tokens)
        valid = F.pad(index[:-1] >= n_tokens - 1 - batch.lengths[:, None], (0, 1), value=True)
        distance = index[:, None] - index[None, :]
        bias = self.position_bias(distance.clamp(min=0)).squeeze(-1)
        gaps = (batch.times[:, :, None] - batch.times[:, None, :]).abs()
        buckets = (gaps.clamp(min=1).float().log() / 0.301).long().clamp(max=128)
        bias = bias + self.time_bias(buckets).squeeze(-1)
        bias = bias.masked_fill(~(valid[:, None, :] & (distance >= 0)), -1e9)
        behaviours = F.pad(valid[:, :-1], (0, 1), value=False).to(x.dtype)
        profile_list = embed(schema.profile, batch.profile)
        profile = torch.stack(profile_list, 1)
        for block in self.blocks:
            x = block(x, profile, bias[:, None], behaviours)
        flat = [x[:, -1], *profile_list, *candidate, *embed(schema.context, batch.context)]
        return self.head(torch.cat(flat, 1)).squeeze(-1)


class PlainBlock(nn.Module):
    """One unified attention block, equation by equation."""

    def __init__(self, source, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        width = source.attention.out.weight.shape[0]
        dtype = source.attention.out.weight.dtype
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=1e-12, dtype=dtype) for _ in range(3))
        for norm, mine in zip(
            self.norms, (source.norm_attention, source.norm_fusion, source.norm_ffn), strict=True
        ):
            norm.load_state_dict(mine.state_dict())
        self.q, self.k, self.v = (
            copy_weight(w) for w in source.attention.qkv.weight.detach().chunk(3)
        )
        self.o = copy_linear(source.attention.out)
        fusion = source.fusion
        self.cross = nn.ModuleList(
            copy_linear(m) for m in (fusion.q, fusion.k, fusion.v, fusion.out)
        )
        self.align = nn.ModuleList(
            copy_linear(m) for m in (fusion.squeeze, fusion.weigh_sequence, fusion.weigh_profile)
        )
        gate, up = source.ffn.gate_and_up.weight.detach().chunk(2)
        gate_bias, up_bias = source.ffn.gate_and_up.bias.detach().chunk(2)
        self.gate, self.up = copy_weight(gate, gate_bias), copy_weight(up, up_bias)
        self.down = copy_linear(source.ffn.down)

    def forward(self, x: Tensor, profile: Tensor, bias: Tensor, behaviours: Tensor) -> Tensor:
        s = self.norms[0](x)
        attended = F.scaled_dot_product_attention(
            self.heads(self.q(s)), self.heads(self.k(s)), self.heads(self.v(s)), attn_mask=bias
        )
        x = x + self.o(self.merge(attended))
        s = self.norms[1](x)
        q, k, v, o = self.cross
        logits = self.heads(q(s)) @ self.heads(k(profile)).transpose(-1, -2)
        weights = torch.softmax(logits * profile.shape[1] ** -0.5, -1)
        c = o(self.merge(weights @ self.heads(v(profile))))
        count = behaviours.sum(1, keepdim=True).clamp(min=1)
        z = ((s + c) * behaviours[:, :, None]).sum(1) / count
        squeeze, to_s, to_c = self.align
        hidden = F.relu(squeeze(z))
        w_s, w_c = torch.softmax(torch.stack([to_s(hidden), to_c(hidden)]), 0)
        x = x + w_s[:, None] * s + w_c[:, None] * c
        s = self.norms[2](x)
        return x + self.down(F.silu(self.gate(s)) * self.up(s))

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def merge(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


def copy_linear(module: nn.Linear) -> nn.Linear:
    return copy_weight(module.weight, module.bias)


def copy_weight(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    with torch.no_grad():
        linear.weight.copy_(weight)
        if bias is not None:
            linear.bias.copy_(bias)
    return linear
