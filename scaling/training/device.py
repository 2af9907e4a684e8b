"""Differences between devices: precision, compiled blocks, copies that overlap with computation."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace

import torch

from models.ctr_model import Batch, CTRModel
from scaling.study import TOKENS_PER_PART

__all__ = ["autocast", "compile_blocks", "on_device", "tokens_per_part"]


# A GPU processes whole batches; the limit is its memory.
_TOKENS_ON_GPU = 2**19


def tokens_per_part(device: str) -> int:
    """How many tokens of a batch are processed at once."""
    return TOKENS_PER_PART if device == "cpu" else _TOKENS_ON_GPU


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
