"""Blocks whose inner activations are computed again in the backward pass, which saves their memory (Chen et al., arXiv 1604.06174)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["recomputed"]


def recomputed(block: Callable[..., Tensor], *inputs: Any, **settings: Any) -> Tensor:
    """Return `block(*inputs, **settings)`; its backward pass runs the block once more, with the same dropout masks.

    Args:
        block: of an encoder.
        inputs: of the block; only these are kept.
        settings: further arguments; `generator`, if there is one, draws the masks.
    """
    generator: torch.Generator | None = settings.get("generator")
    y: Tensor = checkpoint(
        block,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: _same_masks(generator),
        **settings,
    )
    return y


def _same_masks(
    generator: torch.Generator | None,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of the first and of the second run: the second draws what the first has drawn."""
    kept: list[Tensor] = []

    @contextmanager
    def first() -> Iterator[None]:
        if generator is not None:
            kept.append(generator.get_state())
        yield

    @contextmanager
    def second() -> Iterator[None]:
        if generator is None:
            yield
            return
        now = generator.get_state()
        generator.set_state(kept[0])
        try:
            yield
        finally:
            generator.set_state(now)

    return first(), second()
