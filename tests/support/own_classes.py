"""Sources of an encoder that keeps the protocol, in parts that tests change."""

__all__ = ["HEAD", "PACKED", "SUM"]


HEAD = """
from dataclasses import dataclass
import torch
from torch import nn
from models.encoder import Encoder

@dataclass(frozen=True)
class Options:
    rate: float = 0.5

class Own(Encoder):
    options_type = Options

    def __init__(self, grade, options, schema):
        super().__init__(grade, options, schema)
        self.n_out = grade.d * len(schema.behaviour)
        self.layer = nn.Linear(self.n_out, self.n_out)
"""
SUM = """
    def read(self, inputs):
        return self.layer(inputs.candidate_BMD + inputs.seen.float() @ inputs.history_BLD)

    def forward(self, inputs):
        return self.read(inputs)
"""
PACKED = """
    @classmethod
    def packing(cls, options):
        return ("request", "stretch")
"""
