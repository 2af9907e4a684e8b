"""A model whose parameters all matter: large random numbers in place of the usual start, which has many zeros."""

import torch

from models.kinds.building import build_model

__all__ = ["random_model"]


def random_model(grade, options, schema, dtype=torch.float64):
    """Return a model in evaluation mode with the same random parameters each time; the row of padding is zero."""
    model = build_model(grade, options, schema, base_rate=0.3, seed=1).to(dtype).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    with torch.no_grad():
        model.embeddings.weight[0] = 0
    return model
