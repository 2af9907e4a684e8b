"""Differences between devices: precision, compiled blocks, copies that overlap with computation."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace

import torch

from models.ctr_model import Batch, CTRModel
from models.grades import Grade
from models.input_schema import InputSchema
from models.kinds import size_of
from scaling.study import TOKENS_PER_PART, RunConfig

__all__ = [
    "MemoryUse",
    "autocast",
    "compile_blocks",
    "fitted",
    "memory_use",
    "on_device",
    "tokens_per_part",
]


# Of the free memory of a GPU, what activations may take; the rest is for gradients, temporary results and the allocator.
_ACTIVATION_SHARE = 0.5
# Smaller parts leave a GPU idle.
_FEWEST_IN_PART = 32
# The input of a block as a share of all that it keeps, at most.
_INPUT_SHARE = 0.05
# A GPU processes whole batches; the limit is its memory.
_TOKENS_ON_GPU = 2**19


def tokens_per_part(device: str) -> int:
    """How many tokens of a batch are processed at once, if memory does not matter."""
    return TOKENS_PER_PART if device == "cpu" else _TOKENS_ON_GPU


@dataclass(frozen=True)
class MemoryUse:
    """How a batch is trained: in parts of at most `tokens`, and whether blocks are computed again in the backward pass."""

    tokens: int
    recomputes: bool = False


def memory_use(device: str, config: RunConfig, schema: InputSchema) -> MemoryUse:
    """Return how a run's batches fit into the memory that the device has free; on a CPU, into its caches."""
    if device == "cpu":
        return MemoryUse(TOKENS_PER_PART)
    free, _ = torch.cuda.mem_get_info(device)
    size = size_of(config.grade, config.model, schema)
    return fitted(free, size.activation_bytes, config.grade)


def fitted(free_bytes: int, activation_bytes: int, grade: Grade) -> MemoryUse:
    """Return the largest parts that `free_bytes` hold; with blocks computed again if the parts would be too small otherwise.

    Args:
        free_bytes: after the parameters and their moments.
        activation_bytes: kept for one impression with a full history (`models.accounting`).
        grade: of the model.
    """
    room, width = _ACTIVATION_SHARE * free_bytes, grade.max_len + 1
    n_kept = int(room / activation_bytes)
    if n_kept >= _FEWEST_IN_PART or grade.n_layers == 1:
        return MemoryUse(min(_TOKENS_ON_GPU, max(1, n_kept) * width))
    # one block's activations at a time, and the input of each block
    per_block = activation_bytes / grade.n_layers + activation_bytes * _INPUT_SHARE
    return MemoryUse(min(_TOKENS_ON_GPU, max(1, int(room / per_block)) * width), recomputes=True)


def autocast(device: str, precision: str) -> AbstractContextManager[object]:
    """Return the context manager for the forward pass.

    `float32`: products in full precision; `tf32`: a GPU's products of float32 with 10 bits of mantissa;
    `bf16`: products in bfloat16, parameters and sums in float32.
    """
    torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
    if precision == "bf16":
        return torch.autocast(torch.device(device).type, torch.bfloat16)
    return nullcontext()


def compile_blocks(model: CTRModel, device: str) -> None:
    """Compile the blocks and the head for a GPU, to run as CUDA graphs; nothing on a CPU.

    A small grade needs the graphs, because its kernels take less time than their launches. On a CPU our
    own operations are as fast as compiled ones, and compiling takes a minute or more.
    """
    if device == "cpu":
        return
    for part in (*model.encoder.parts_to_compile(), model.head):
        part.compile(mode="reduce-overhead", dynamic=False)


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
