"""Differences between devices: precision, compiled blocks, copies that overlap with computation."""

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, replace
from typing import Any

import torch

from models.accounting import TOKENS_ON_GPU, MemoryUse
from models.ctr_model import Batch, CTRModel
from models.input_schema import InputSchema
from models.kinds import takes_batch_statistics
from scaling.batches import Shapes
from scaling.study import TOKENS_PER_PART, RunConfig

__all__ = [
    "autocast",
    "compile_blocks",
    "few_shapes",
    "has_one_part",
    "memory_use",
    "on_device",
    "tokens_per_part",
    "uncompiled",
]


# Of one function; torch's own limit of 8 is for functions that see one shape. Beyond it the function is no longer compiled.
_MOST_GRAPHS = 128


def tokens_per_part(device: str) -> int:
    """How many tokens of a batch are processed at once, if memory does not matter."""
    return TOKENS_PER_PART if device == "cpu" else TOKENS_ON_GPU


def memory_use(device: str, config: RunConfig, schema: InputSchema, n_cells: int = 1) -> MemoryUse:
    """Return how a run's batches fit into the memory that the device has free; on a CPU, into its caches.

    Args:
        device: of torch.
        config: of the run.
        schema: of its data.
        n_cells: cells that share the device; each takes its part of the memory.
    """
    if device == "cpu":
        return MemoryUse(TOKENS_PER_PART)
    free, total = torch.cuda.mem_get_info(device)
    return config.memory_use(schema, min(free, total / n_cells))


def autocast(device: str, precision: str) -> AbstractContextManager[object]:
    """Return the context manager for the forward pass.

    `float32`: products in full precision; `tf32`: a GPU's products of float32 with 10 bits of mantissa;
    `bf16`: products in bfloat16, parameters and sums in float32.
    """
    torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
    if precision == "bf16":
        return torch.autocast(torch.device(device).type, torch.bfloat16)
    return nullcontext()


def few_shapes(config: RunConfig, schema: InputSchema, n_ranks: int = 1) -> Shapes:
    """Return the shapes of a run's parts where code is compiled for each shape."""
    models = [(config.grade, config.model)]
    if config.distill is not None:
        models.append((config.distill.teacher, config.distill.model))
    if any(takes_batch_statistics(grade, options, schema) for grade, options in models):
        return Shapes(None, config.max_len)
    return Shapes(_passes_in_step(config, n_ranks), config.max_len)


def has_one_part(config: RunConfig, memory: MemoryUse, n_ranks: int = 1) -> bool:
    """Whether every step of a run surely has one part, on each of the ranks; packed steps may have any size."""
    n_tokens = _passes_in_step(config, n_ranks) * (config.max_len + 1)
    return config.packing == "none" and n_tokens <= memory.tokens


def _passes_in_step(config: RunConfig, n_ranks: int) -> int:
    """The most passes that one rank reads of a step."""
    return math.ceil(config.batch_size / n_ranks)


def compile_blocks(
    model: CTRModel, device: str, *, graphs: bool = True, backend: str = "inductor"
) -> None:
    """Compile the blocks and the head for a GPU; nothing on a CPU, nor for what was compiled in this process before.

    A small grade needs CUDA graphs, because its kernels take less time than their launches. On a CPU our
    own operations are as fast as compiled ones, and compiling takes a minute or more.

    Args:
        model: in training.
        device: of torch.
        graphs: whether to run as CUDA graphs; wrong where a step has several parts, because the next replay overwrites the
            memory in which the gradients of the part before lie, or where blocks are computed again.
        backend: of torch.compile; "eager" for tests.
    """
    if device == "cpu":
        return
    # what an earlier cell of this process has compiled would count towards the limit
    torch.compiler.reset()
    settings: Any = torch._dynamo.config
    # its name in torch 2.6
    limit = "recompile_limit" if hasattr(settings, "recompile_limit") else "cache_size_limit"
    setattr(settings, limit, _MOST_GRAPHS)
    mode = "reduce-overhead" if graphs else "default"
    for part in (*model.encoder.parts_to_compile(), model.head):
        part.compile(mode=mode, dynamic=False, backend=backend)


@contextmanager
def uncompiled(model: CTRModel) -> Iterator[None]:
    """Run the model's blocks as they are; evaluation reads each row once, and has other shapes than training."""
    found = [module for module in model.modules() if module._compiled_call_impl is not None]
    calls = [module._compiled_call_impl for module in found]
    for module in found:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, call in zip(found, calls, strict=True):
            module._compiled_call_impl = call


def on_device(batches: Iterable[list[Batch]], device: str) -> Iterator[list[Batch]]:
    """Yield the batches on the device; the next one is copied while the current one is processed."""
    if device == "cpu":
        yield from batches
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: list[Batch] | None = None
    for parts in batches:
        with torch.cuda.stream(stream):
            copied = [_copy(part, device) for part in parts]
        if ahead is not None:
            yield ahead
        _wait(copied, stream)
        ahead = copied
    if ahead is not None:
        yield ahead


def _copy(batch: Batch, device: str) -> Batch:
    moved = {
        f.name: value.pin_memory().to(device, non_blocking=True)
        for f in fields(batch)
        if (value := getattr(batch, f.name)) is not None
    }
    return replace(batch, **moved)


def _wait(parts: list[Batch], stream: torch.cuda.Stream) -> None:
    """Make later work wait for the copies, and inform the allocator that the tensors are in use."""
    current = torch.cuda.current_stream()
    current.wait_stream(stream)
    for part in parts:
        for f in fields(part):
            value = getattr(part, f.name)
            if value is not None:
                value.record_stream(current)
