"""Builds a model of any kind."""

import warnings
from collections.abc import Callable

import torch
from torch import nn

from models.ctr_model import CTRModel
from models.embeddings import FeatureEmbeddings
from models.grades import Grade
from models.input_schema import InputSchema
from models.kinds.known_kinds import encoder_class, read_options
from models.model_options import ModelOptions

__all__ = ["build_model", "empty_model"]


def empty_model(
    grade: Grade,
    options: ModelOptions,
    schema: InputSchema,
    embeddings: Callable[[InputSchema, int, float], FeatureEmbeddings] = FeatureEmbeddings,
) -> CTRModel:
    """Return a model whose parameters are to be loaded.

    Raises:
        ModelError: the encoder's class is not there, or does not take the options.
    """
    kind = options.kind
    with warnings.catch_warnings():
        # a log without features of behaviours has an empty layer
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        return CTRModel(kind, encoder_class(kind), grade, read_options(options), schema, embeddings)


def build_model(
    grade: Grade,
    options: ModelOptions,
    schema: InputSchema,
    *,
    base_rate: float,
    seed: int,
    embeddings: Callable[[InputSchema, int, float], FeatureEmbeddings] = FeatureEmbeddings,
) -> CTRModel:
    """Build a model with its own seed; its first predictions lie close to the base rate.

    The last layer starts small with the base rate's log-odds as its bias, so that the first steps
    are not spent on finding the mean. `embeddings` builds the feature table.

    Raises:
        ModelError: the encoder's class is not there, or does not take the options.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = empty_model(grade, options, schema, embeddings)
        final = model.head[-1]
        assert isinstance(final, nn.Linear)
        with torch.no_grad():
            final.weight *= 0.1
            final.bias.fill_(torch.logit(torch.tensor(base_rate, dtype=torch.float64)).item())
    return model
