"""Self-attention with relative bias: dense (SUAN), sparse (LightSUAN) and FlexAttention kernels.

Not here: the block around the attention (`models.suan`) and the scoring of requests (`models.scoring`).
"""

from models.attention.bias import Bias, RelativeBias, Tile, make_tiles
from models.attention.candidates import CandidateKeys, attend_history
from models.attention.dense import SelfAttention
from models.attention.flex import FlexBias, flex_sparse_attention
from models.attention.layout import MASKED, Layout, RunningMean
from models.attention.light import SparseBias, sparse_pays
from models.attention.sparse import gap_buckets, sparse_attention, sparse_bias

__all__ = [
    "MASKED",
    "Bias",
    "CandidateKeys",
    "FlexBias",
    "Layout",
    "RelativeBias",
    "RunningMean",
    "SelfAttention",
    "SparseBias",
    "Tile",
    "attend_history",
    "flex_sparse_attention",
    "gap_buckets",
    "make_tiles",
    "sparse_attention",
    "sparse_bias",
    "sparse_pays",
]
