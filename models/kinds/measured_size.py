"""Parameters, FLOPs and memory of any encoder, by torch's own counters on the meta device, where nothing is computed."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from models.accounting import ModelSize, pooling_flops
from models.ctr_model import Batch, CTRModel
from models.grades import Grade
from models.input_schema import InputSchema, n_columns
from models.kinds.building import empty_model
from models.kinds.own_class import ModelError
from models.model_options import ModelOptions, OptionError

__all__ = ["empty_batch", "has_running_statistics", "measure", "measure_pass"]


def measure(grade: Grade, options: ModelOptions, schema: InputSchema) -> ModelSize:
    """Return what a model costs: one candidate after a full history.

    Look-up tables that the encoder declares count as embedding parameters.

    Raises:
        ModelError: the class cannot be built or run with these sizes.
    """
    model = _on_meta(grade, options, schema)
    tables = {f"encoder.{name}" for name in model.encoder.tables}
    n_embedding = n_dense = 0
    for name, parameter in model.named_parameters():
        if name.startswith("embeddings.") or name in tables:
            n_embedding += parameter.numel()
        else:
            n_dense += parameter.numel()
    flops, saved = _cost(model, options, schema, grade.max_len, 1)
    return ModelSize(n_dense, n_embedding, flops, saved)


def measure_pass(
    grade: Grade, options: ModelOptions, schema: InputSchema, n_history: int, n_candidates: int
) -> tuple[int, int]:
    """Return the forward FLOPs of a pass and the bytes that it saves for the backward pass.

    Raises:
        ModelError: the class cannot be built or run with these sizes.
    """
    model = _on_meta(grade, options, schema)
    return _cost(model, options, schema, n_history, n_candidates)


def has_running_statistics(grade: Grade, options: ModelOptions, schema: InputSchema) -> bool:
    """Whether a module of the encoder keeps a running mean, as layers do that take statistics over the rows of a pass.

    Raises:
        ModelError: the class cannot be built with these sizes.
    """
    return any(
        name.rpartition(".")[2] == "running_mean"
        for name, _ in _on_meta(grade, options, schema).encoder.named_buffers()
    )


def empty_batch(schema: InputSchema, n_history: int, n_candidates: int, device: str) -> Batch:
    """Return one pass of padding; its candidates share the pass if there are several."""

    def ids(*shape: int) -> Tensor:
        return torch.zeros(1, *shape, dtype=torch.int64, device=device)

    own = () if n_candidates == 1 else (n_candidates,)
    n_tokens = n_history + n_candidates
    return Batch(
        behaviours=ids(n_history, n_columns(schema.behaviour)),
        times=ids(n_tokens),
        hours=ids(n_tokens),
        lengths=ids().fill_(n_history),
        candidate=ids(*own, n_columns(schema.candidate)),
        context=ids(*own, n_columns(schema.context)),
        profile=ids(n_columns(schema.profile)),
        numeric=torch.zeros(1, *own, len(schema.numeric), device=device),
        label=torch.zeros(1, *own, device=device),
    )


def _on_meta(grade: Grade, options: ModelOptions, schema: InputSchema) -> CTRModel:
    try:
        with torch.device("meta"):
            model = empty_model(grade, options, schema)
    except ModelError:
        raise
    except OptionError as error:
        raise ModelError(f"{options.kind}: {error}", option=error.option) from error
    except Exception as error:
        raise ModelError(_refused(options, "cannot be built", error)) from error
    return model


def _cost(
    model: CTRModel, options: ModelOptions, schema: InputSchema, n_history: int, n_candidates: int
) -> tuple[int, int]:
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    saved: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        place = x.untyped_storage()._cdata
        if place not in own and x.is_floating_point():
            saved[place] = max(saved.get(place, 0), 4 * x.numel())
        alive.append(x)
        return x

    alive: list[Any] = []  # so that no two tensors share an address
    counter = FlopCounterMode(display=False)
    batch = empty_batch(schema, n_history, n_candidates, "meta")
    try:
        with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            logits = model(batch)
    except Exception as error:
        where = f"cannot be run on the meta device, where FLOPs are counted (L = {n_history})"
        raise ModelError(_refused(options, where, error)) from error
    if logits.shape != batch.label.shape:
        raise ModelError(
            f"{options.kind}: forward returned logits of shape {tuple(logits.shape)}, "
            f"expected {tuple(batch.label.shape)}"
        )
    flops = counter.get_total_flops()
    n_tokens = (n_history + n_candidates) * model.encoder.reads_tokens
    flops += pooling_flops(schema, model.grade.d, n_tokens, n_candidates)
    return flops, math.ceil(sum(saved.values()))


def _refused(options: ModelOptions, what: str, error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return f"{options.kind}: {what}: {text}"
