"""Norms, feed-forward networks of SUAN's block, their chunked versions for a CPU core's cache, and its recomputation.

Shapes: B batch, N tokens, D token width.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

__all__ = [
    "ELEMENTS_IN_CACHE",
    "FeedForward",
    "ReluFeedForward",
    "StepNorm",
    "build_norm",
    "cache_chunks",
    "in_cache",
    "last_tokens",
    "recomputed",
]


# The release divides by (rms + 1e-6); adding the square inside the root is the same to 1e-6 and has
# a gradient at zero.
_EPS = 1e-12

# How far running statistics move with each step, as in torch.
_MOMENTUM = 0.1

# Elements per chunk of a tensor [rows, D]; a quarter to twice as many are equally fast.
ELEMENTS_IN_CACHE = 80_000


def build_norm(kind: str, width: int) -> nn.Module:
    """Return RMSNorm (`rms`, gain only) or LayerNorm (`layer`)."""
    return RMSNorm(width) if kind == "rms" else nn.LayerNorm(width, eps=1e-6)


def in_cache(x: Tensor) -> bool:
    """Whether to work in chunks with our own gradients, which is faster on a CPU core.

    A GPU, mixed precision and exported models use torch's operations, which its compiler fuses.
    """
    plain = torch.is_autocast_enabled("cpu") or torch.compiler.is_exporting()
    return x.device.type == "cpu" and not plain


def last_tokens(x_BND: Tensor, n: int) -> Tensor:
    """The last `n` tokens, without a slice if `n` covers all: it would cost the backward pass two passes over memory."""
    return x_BND if n == x_BND.shape[1] else x_BND[:, -n:]


def cache_chunks(x: Tensor) -> tuple[Tensor, ...]:
    """Rows of x [..., D] in chunks that fit into a core's cache together with their hidden layer."""
    flat = x.reshape(-1, x.shape[-1])
    return torch.split(flat, max(ELEMENTS_IN_CACHE // x.shape[-1], 1))


class _RMSNorm(torch.autograd.Function):
    """x / rms(x) * gain; torch's version takes seven passes over memory on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        inverses = []
        for rows, out in zip(cache_chunks(x), cache_chunks(y), strict=True):
            norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
            inverse = norm.square_().div_(x.shape[-1]).add_(_EPS).rsqrt_()
            torch.mul(rows, inverse, out=out).mul_(gain)
            inverses.append(inverse)
        ctx.save_for_backward(x, gain, *inverses)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, gain, *inverses = ctx.saved_tensors
        grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        grad_gain = torch.zeros_like(gain)
        pieces = zip(
            cache_chunks(x), cache_chunks(grad), cache_chunks(grad_x), inverses, strict=True
        )
        for rows, grad_rows, out, inverse in pieces:
            unit = rows * inverse
            products = grad_rows * unit
            grad_gain += products.sum(0)
            mean = torch.mv(products, gain).unsqueeze_(1).div_(len(gain))
            torch.mul(grad_rows, gain, out=out).addcmul_(unit, mean, value=-1).mul_(inverse)
        return grad_x, grad_gain


class RMSNorm(nn.Module):
    """Root-mean-square norm with a gain and no shift (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return x of the same shape, normed over its last dimension."""
        if not in_cache(x):
            return F.rms_norm(x, x.shape[-1:], self.weight, _EPS)
        y: Tensor = _RMSNorm.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return y


class _SwiGLU(torch.autograd.Function):
    """stream + (silu(x W1 + b1) * (x W2 + b2)) W3 + b3, a few thousand tokens at a time.

    That many fit into a core's cache from one pass to the next. Gate and up are stored separately, so
    that each pass is contiguous.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        stream: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        down: Tensor,
        down_bias: Tensor,
    ) -> Tensor:
        (gate_weight, up_weight), (gate_bias, up_bias) = weight.chunk(2), bias.chunk(2)
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        saved = []
        chunks = cache_chunks(x)
        streams = (down_bias,) * len(chunks) if stream is None else cache_chunks(stream)
        for rows, out_rows, added in zip(chunks, cache_chunks(out), streams, strict=True):
            gate = torch.addmm(gate_bias, rows, gate_weight.t())
            up = torch.addmm(up_bias, rows, up_weight.t())
            activated = F.silu(gate)
            torch.addmm(added, activated * up, down.t(), out=out_rows)
            if stream is not None:
                out_rows += down_bias
            saved += [gate, up, activated]
        ctx.has_stream = stream is not None
        ctx.save_for_backward(x, weight, down, *saved)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, *saved = ctx.saved_tensors
        gate_weight, up_weight = weight.chunk(2)
        grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        grad_weight, grad_down = torch.zeros_like(weight), torch.zeros_like(down)
        grad_bias, grad_down_bias = weight.new_zeros(len(weight)), down.new_zeros(len(down))
        to_gate, to_up = grad_weight.chunk(2)
        to_gate_bias, to_up_bias = grad_bias.chunk(2)
        chunks = zip(cache_chunks(x), cache_chunks(grad), cache_chunks(grad_x), strict=True)
        for number, (rows, grad_out, grad_rows) in enumerate(chunks):
            gate, up, activated = saved[3 * number : 3 * number + 3]
            grad_hidden = grad_out.mm(down)
            grad_up = grad_hidden * activated
            grad_gate = torch.ops.aten.silu_backward(grad_hidden.mul_(up), gate)
            torch.mm(grad_gate, gate_weight, out=grad_rows).addmm_(grad_up, up_weight)
            to_gate.addmm_(grad_gate.t(), rows)
            to_up.addmm_(grad_up.t(), rows)
            grad_down.addmm_(grad_out.t(), activated * up)
            to_gate_bias += grad_gate.sum(0)
            to_up_bias += grad_up.sum(0)
            grad_down_bias += grad_out.sum(0)
        grad_stream = grad if ctx.has_stream else None
        return grad_x, grad_stream, grad_weight, grad_bias, grad_down, grad_down_bias


class FeedForward(nn.Module):
    """SwiGLU: (silu(x W1 + b1) * (x W2 + b2)) W3 + b3, inner width 3 D (SUAN, UAB step 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_and_up = nn.Linear(width, 2 * 3 * width)  # W1 then W2
        self.down = nn.Linear(3 * width, width)  # W3

    def forward(self, x_BND: Tensor, stream_BND: Tensor | None = None) -> Tensor:
        """Return [B, N, D], added to `stream_BND` if that is given."""
        first, last = self.gate_and_up, self.down
        if not in_cache(x_BND):
            gate, up = first(x_BND).chunk(2, -1)
            out: Tensor = last(F.silu(gate) * up)
            return out if stream_BND is None else stream_BND + out
        y_BND: Tensor = _SwiGLU.apply(  # type: ignore[no-untyped-call]
            x_BND, stream_BND, first.weight, first.bias, last.weight, last.bias
        )
        return y_BND


class ReluFeedForward(nn.Module):
    """relu(x W1 + b1) W2 + b2, inner width 3 D: the paper's ablation of SwiGLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 3 * width)
        self.down = nn.Linear(3 * width, width)

    def forward(self, x_BND: Tensor, stream_BND: Tensor | None = None) -> Tensor:
        """Return [B, N, D], added to `stream_BND` if that is given."""
        y_BND: Tensor = self.down(F.relu(self.up(x_BND)))
        return y_BND if stream_BND is None else stream_BND + y_BND


class StepNorm(nn.BatchNorm1d):
    """Batch normalisation of inputs whose statistics are those of a whole training step, in however many parts it is read.

    Inputs have no gradient, so that their mean and variance can be known before the first part is trained on.
    Without `see`, those of the rows at hand are taken; a single row has none.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self._seen: tuple[Tensor, Tensor] | None = None

    def see(self, sums: Tensor, squares: Tensor, n: int) -> None:
        """Take the statistics of the next step's n rows, and move the running ones.

        Args:
            sums: of each feature, float64 [f].
            squares: sums of the squared features, float64 [f].
            n: number of rows; a single one has no variance, and the running statistics are taken.
        """
        if n < 2:
            self._seen = self.running_mean.clone(), self.running_var.clone()
            return
        mean = sums / n
        variance = (squares / n - mean.square()).clamp_(min=0)
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean), _MOMENTUM)
            unbiased = (variance * (n / (n - 1))).to(self.running_var)
            self.running_var.lerp_(unbiased, _MOMENTUM)
        self._seen = mean.to(self.running_mean), variance.to(self.running_var)

    def forward(self, x: Tensor) -> Tensor:
        """Return [n, f]."""
        if self.training and self._seen is None and len(x) > 1:
            return super().forward(x)
        mean, variance = self.running_mean, self.running_var
        if self.training and self._seen is not None:
            mean, variance = self._seen
        return F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)


def recomputed(block: Callable[..., Tensor], *inputs: Any, **settings: Any) -> Tensor:
    """Return `block(*inputs, **settings)`; its backward pass runs the block once more, with the same dropout masks.

    This saves the memory of what is inside the block (Chen et al., arXiv 1604.06174).

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
