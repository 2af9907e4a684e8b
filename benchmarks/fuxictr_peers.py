"""DIN and BST from the parts of FuxiCTR 2.3.10, as peers for timings: the same functions as ours, trained as FuxiCTR trains.

Embeddings (a dense table per vocabulary), DIN's attention with Dice, the head's network, loss, gradient clipping and Adam are
FuxiCTR's. Its BST is not in the wheel; this one is built of the parts that it names: torch's MultiheadAttention,
LeakyReLU, LayerNorm, a position table beside the embeddings. Weights are copied from one of our models.

Import this module after `add_fuxictr` of benchmarks/model_speed.py.
"""

import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import DIN_Attention, FeatureEmbeddingDict, MLP_Block
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn

from models.ctr_model import Batch, CTRModel

__all__ = ["FuxiBST", "FuxiDIN", "fuxi_batch"]

GROUPS = ("behaviour", "candidate", "context", "profile")


def feature_map(schema, max_len: int) -> FeatureMap:
    """Our features as FuxiCTR describes them; those of one vocabulary share a table."""
    described, owners = FeatureMap("benchmark", ""), {}
    described.labels = ["label"]
    for group in GROUPS:
        for feature in getattr(schema, group):
            name, size = f"{group}_{feature.name}", schema.vocabularies[feature.vocabulary]
            spec = {"source": group, "vocab_size": size, "padding_idx": 0, "type": "categorical"}
            if group == "behaviour":
                spec |= {"type": "sequence", "max_len": max_len}
            if feature.vocabulary in owners:
                spec["share_embedding"] = owners[feature.vocabulary]
            owners.setdefault(feature.vocabulary, name)
            described.features[name] = spec
    return described


def fuxi_batch(batch: Batch, schema) -> dict[str, Tensor]:
    """One tensor for each feature, as FuxiCTR's loaders give them."""
    given = {"label": batch.label}
    ids = (batch.behaviours, batch.candidate, batch.context, batch.profile)
    for group, columns in zip(GROUPS, ids, strict=True):
        for number, feature in enumerate(getattr(schema, group)):
            given[f"{group}_{feature.name}"] = columns[..., number].contiguous()
    return given


class FuxiModel(BaseModel):
    """Embeddings, a reader of the history that a subclass adds, and the head."""

    def __init__(self, source: CTRModel, schema) -> None:
        grade, self.schema = source.grade, schema
        super().__init__(
            feature_map(schema, grade.max_len), verbose=0, model_root="", metrics=["AUC"]
        )
        self.d = d = grade.d
        self.embedding_layer = FeatureEmbeddingDict(self.feature_map, d)
        self.add_reader(source)
        n_flat = len(schema.profile) + len(schema.candidate) + len(schema.context)
        self.dnn = MLP_Block(
            input_dim=source.encoder.n_out + n_flat * d,
            output_dim=1,
            hidden_units=[16 * d, 8 * d],
            hidden_activations="SiLU",
            output_activation=self.output_activation,
        )
        self.copy_tables(source)
        copy_linears(source.head, self.dnn)
        self.compile("adam", "binary_crossentropy", 1e-3)
        self._max_gradient_norm = 10.0

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        given = self.get_inputs(inputs)
        embedded = self.embedding_layer(given)
        names = [f"behaviour_{f.name}" for f in self.schema.behaviour]
        history = torch.cat([embedded[name] for name in names], -1)
        lacks = history.new_zeros(len(history), self.d)
        slots = [f"candidate_{f.name}" for f in self.schema.behaviour]
        target = torch.cat([embedded.get(name, lacks) for name in slots], -1)
        read = self.read(target, history, given[names[0]] != 0)
        flat = [
            embedded[f"{group}_{f.name}"]
            for group in ("profile", "candidate", "context")
            for f in getattr(self.schema, group)
        ]
        return {"y_pred": self.dnn(torch.cat([read, *flat], -1))}

    def copy_tables(self, source: CTRModel) -> None:
        first = {}
        n_rows = 0
        for name, size in self.schema.vocabularies.items():
            first[name], n_rows = n_rows, n_rows + size - 1
        with torch.no_grad():
            for group in GROUPS:
                for feature in getattr(self.schema, group):
                    start, size = (
                        first[feature.vocabulary],
                        self.schema.vocabularies[feature.vocabulary],
                    )
                    table = self.embedding_layer.embedding_layers[f"{group}_{feature.name}"]
                    table.weight[1:] = source.embeddings.weight[start + 1 : start + size]


class FuxiDIN(FuxiModel):
    """Their attention as it is."""

    def add_reader(self, source: CTRModel) -> None:
        width = source.encoder.n_out
        units = [2 * width] * source.grade.n_layers + [width]
        self.attention = DIN_Attention(width, attention_units=units, hidden_activations="Dice")
        copy_linears(source.encoder.unit, self.attention)
        dice = [module for module in source.encoder.unit.rest if hasattr(module, "alpha")]
        theirs = [module for module in self.attention.modules() if hasattr(module, "alpha")]
        with torch.no_grad():
            for one, other in zip(dice, theirs, strict=True):
                other.alpha.copy_(one.alpha)

    def read(self, target: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        return self.attention(target, history, mask)


class FuxiBST(FuxiModel):
    """[history; target] beside positions, through blocks that normalise after each residual."""

    def add_reader(self, source: CTRModel) -> None:
        encoder, grade = source.encoder, source.grade
        self.options, self.n_heads = encoder.options, grade.n_heads
        self.position = nn.Parameter(encoder.position.detach().clone())
        self.blocks = nn.ModuleList(
            TransformerBlock(encoder.n_out, grade.n_heads) for _ in encoder.blocks
        )
        with torch.no_grad():
            for ours, theirs in zip(encoder.blocks, self.blocks, strict=True):
                theirs.attention.in_proj_weight.copy_(ours.qkv.weight)
                theirs.attention.in_proj_bias.copy_(ours.qkv.bias)
                theirs.attention.out_proj.load_state_dict(ours.out.state_dict())
                theirs.ffn[0].load_state_dict(ours.up.state_dict())
                theirs.ffn[2].load_state_dict(ours.down.state_dict())
                theirs.norm_attention.load_state_dict(ours.norm_attention.state_dict())
                theirs.norm_ffn.load_state_dict(ours.norm_ffn.state_dict())

    def read(self, target: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        x = torch.cat([history, target.unsqueeze(1)], 1)
        x = torch.cat([x, self.position.expand(len(x), -1, -1)], -1)
        valid = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        hidden = self.hidden_pairs(valid)
        for block in self.blocks:
            x = block(x, hidden)
        if self.options.pooling == "target":
            return x[:, -1]
        weights = valid.to(x.dtype).unsqueeze(-1)
        return (x * weights).sum(1) / weights.sum(1)

    def hidden_pairs(self, valid: Tensor) -> Tensor:
        """Which token may not read which, for each pass and head [B H, N, N]; a token always reads itself."""
        n_tokens = valid.shape[1]
        itself = torch.eye(n_tokens, dtype=torch.bool)
        hidden = ~valid.unsqueeze(1) & ~itself
        if self.options.causal:
            hidden = hidden | torch.ones(n_tokens, n_tokens, dtype=torch.bool).triu(1)
        return hidden.repeat_interleave(self.n_heads, 0)


class TransformerBlock(nn.Module):
    """LN(x + attention), then LN(x + network), all of one width."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, n_heads, batch_first=True)
        self.ffn = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, width))
        self.norm_attention, self.norm_ffn = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        # with the weights as a second result, which is torch's default and what FuxiCTR calls
        attended, _ = self.attention(x, x, x, attn_mask=hidden)
        x = self.norm_attention(attended + x)
        return self.norm_ffn(self.ffn(x) + x)


def copy_linears(source: nn.Module, target: nn.Module) -> None:
    """Copy all linear layers in their order."""
    ours, theirs = (
        [m for m in one.modules() if isinstance(m, nn.Linear)] for one in (source, target)
    )
    for one, other in zip(ours, theirs, strict=True):
        other.load_state_dict(one.state_dict())
