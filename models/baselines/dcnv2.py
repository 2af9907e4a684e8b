"""DCNv2 (Wang et al., WWW '21, arXiv 2008.13535): explicit feature crosses beside a deep network, without a history.

With x_0 the features side by side, x_(l+1) = x_l + x_0 * (W_l x_l + b_l) (equation 1), and beside it a ReLU network (the
parallel structure, figure 1); the output is both side by side. This is the floor of a race of sequence models.

Published: Criteo, 2 to 4 cross layers, networks of 2 to 3 layers of 768 to 1024 units; FuxiCTR: 3 cross layers, 3 of 500.

Grade rule: `n_layers` + 1 cross layers and as many ReLU layers, all as wide as x_0, d times the number of profile,
candidate and context features. `n_heads` and `max_len` change nothing.

Shapes: B passes, M candidates, W width of x_0.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.encoder import Encoder, EncoderInput, Packing
from models.grades import Grade
from models.input_schema import InputSchema

__all__ = ["CrossNet", "DCNv2", "DCNv2Options", "DeepNet"]


@dataclass(frozen=True)
class DCNv2Options:
    """DCNv2 has no variations here."""


class CrossNet(nn.Module):
    """Products of up to `n_layers` + 1 features."""

    def __init__(self, width: int, n_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(n_layers))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x [..., W]."""
        crossed = x
        for layer in self.layers:
            crossed = torch.addcmul(crossed, x, layer(crossed))
        return crossed


class DeepNet(nn.Module):
    """Linear layers, each followed by a ReLU."""

    def __init__(self, width: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        sizes = zip((width, *hidden), hidden, strict=False)
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., last of `hidden`]."""
        for layer in self.layers:
            x = F.relu(layer(x))
        return x


class DCNv2(Encoder):
    """The crossed features and the deep network's output, [B, M, 2 W]."""

    options_type = DCNv2Options
    reads_tokens = False

    def __init__(self, grade: Grade, options: DCNv2Options, schema: InputSchema) -> None:
        super().__init__(grade, options, schema)
        n_features = len(schema.profile) + len(schema.candidate) + len(schema.context)
        width, n_layers = n_features * grade.d, grade.n_layers + 1
        self.n_out = 2 * width
        self.cross = CrossNet(width, n_layers)
        self.deep = DeepNet(width, (width,) * n_layers)

    @classmethod
    def packing(cls, options: Any) -> tuple[Packing, ...]:
        """Both: nothing of the history is read."""
        return ("request", "stretch")

    def forward(self, inputs: EncoderInput) -> Tensor:
        """Return [B, M, 2 W]."""
        profile = inputs.profile_BPd.flatten(1).unsqueeze(1).expand(-1, inputs.n_candidates, -1)
        x = torch.cat([profile, inputs.own_BMC], -1)
        return torch.cat([self.cross(x), self.deep(x)], -1)
