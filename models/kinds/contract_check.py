"""Runs an encoder of somebody else on small random passes, and checks what the protocol promises of it."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from models.ctr_model import Batch, CTRModel
from models.encoder import EncoderInput
from models.grades import Grade
from models.input_schema import InputSchema
from models.kinds.building import build_model
from models.kinds.known_kinds import encoder_class, read_options
from models.kinds.own_class import ModelError
from models.model_options import ModelOptions

__all__ = ["check_contract"]


_LENGTHS, _N_CANDIDATES = (9, 4, 0), 3
# float32 sums in another order
_TOLERANCE = 1e-4


def check_contract(grade: Grade, options: ModelOptions, schema: InputSchema) -> None:
    """Check an encoder: its sizes, shapes, determinism, gradients, and the packing that it declares.

    Raises:
        ModelError: one line that names the class, what it did and what was expected.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _check(grade, options, schema)
    except ModelError:
        raise
    except Exception as error:
        raise _error(options, f"fails: {type(error).__name__}: {error}", "a pass") from error


def _check(grade: Grade, options: ModelOptions, schema: InputSchema) -> None:
    encoder = encoder_class(options.kind)(grade, read_options(options), schema)
    if not isinstance(getattr(encoder, "n_out", None), int):
        raise _error(options, "has no n_out", "the width of its vectors, set in __init__")
    model = build_model(grade, options, schema, base_rate=0.3, seed=1)
    passes = _passes(schema, min(grade.max_len, max(_LENGTHS)))
    one = _only_candidate(passes, 0)
    outputs: list[Tensor] = []
    hook = model.encoder.register_forward_hook(
        lambda _, given, out: _see(options, given[0], out, model)
    )
    model.eval()
    with torch.no_grad():
        outputs = [model(one) for _ in range(2)]
        again = build_model(grade, options, schema, base_rate=0.3, seed=1).eval()(one)
    _require_equal(options, outputs[0], outputs[1], "two passes in evaluation differ", exact=True)
    _require_equal(options, outputs[0], again, "two builds with one seed differ", exact=True)
    _check_padding(options, model, one)
    _check_packing(options, model, passes)
    hook.remove()
    model.train()
    model(one).sum().backward()
    dense = [p for name, p in model.encoder.named_parameters()]
    if dense and not any(p.grad is not None and p.grad.any() for p in dense):
        raise _error(options, "no parameter gets a gradient", "a differentiable pass")


def _see(options: ModelOptions, inputs: EncoderInput, out: object, model: CTRModel) -> None:
    expected = (inputs.lengths.shape[0], inputs.n_candidates, model.encoder.n_out)
    if not isinstance(out, Tensor) or tuple(out.shape) != expected:
        found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise _error(
            options,
            f"forward returned {found}",
            f"[B, M, n_out] = {expected}, one vector per candidate",
        )
    if not torch.isfinite(out).all():
        raise _error(
            options,
            "forward returned values that are not finite",
            "finite vectors, also for passes without a history",
        )


def _check_padding(options: ModelOptions, model: CTRModel, batch: Batch) -> None:
    """A pass alone, without the padding that longer histories bring, has the same logits."""
    n_history = batch.behaviours.shape[1]
    with torch.no_grad():
        together = model(batch)
        for row, length in enumerate(batch.lengths.tolist()):
            cut = n_history - max(length, 1)
            alone = replace(
                _rows(batch, row),
                behaviours=batch.behaviours[row : row + 1, cut:],
                times=batch.times[row : row + 1, cut:],
                hours=batch.hours[row : row + 1, cut:],
            )
            _require_equal(
                options,
                model(alone)[0],
                together[row],
                "padding or the other passes of a batch change it",
            )


def _check_packing(options: ModelOptions, model: CTRModel, passes: Batch) -> None:
    declared = model.encoder.packing(model.options)
    if "request" in declared:
        with torch.no_grad():
            packed = model(passes)
            for index in range(_N_CANDIDATES):
                alone = model(_only_candidate(passes, index))
                _require_equal(
                    options,
                    packed[:, index],
                    alone,
                    "it declares packing request, but candidates change each other",
                )
    if "stretch" in declared:
        _check_stretch(options, model, passes)


def _check_stretch(options: ModelOptions, model: CTRModel, passes: Batch) -> None:
    n_history = passes.behaviours.shape[1]
    whole = _rows(passes, 0)
    ends = torch.tensor([[n_history // 3, n_history // 2, n_history]])
    with torch.no_grad():
        packed = model(replace(whole, ends=ends))
        for index, end in enumerate(ends[0].tolist()):
            one = _only_candidate(whole, index)
            columns = [*range(end), n_history]
            alone = replace(
                one,
                behaviours=one.behaviours[:, :end],
                times=one.times[:, columns],
                hours=one.hours[:, columns],
                lengths=one.lengths - (n_history - end),
            )
            _require_equal(
                options,
                packed[0, index],
                model(alone)[0],
                "it declares packing stretch, but a candidate reads more than the history before its request",
            )


def _passes(schema: InputSchema, n_history: int) -> Batch:
    """Three packed passes: a full history, a short one and none."""
    lengths = torch.tensor([min(length, n_history) for length in _LENGTHS])
    valid = torch.arange(n_history) >= (n_history - lengths)[:, None]

    def ids(group: str, *shape: int) -> Tensor:
        sizes = [schema.vocabularies[f.vocabulary] for f in getattr(schema, group)]
        columns = [torch.randint(1, max(2, size), (3, *shape)) for size in sizes]
        return torch.stack(columns, -1) if columns else torch.zeros(3, *shape, 0, dtype=torch.int64)

    times = torch.randint(60, 86_400, (3, n_history)).cumsum(1) + 1_700_000_000
    request = (times[:, -1:] + 600).expand(-1, _N_CANDIDATES)
    times = torch.cat([times * valid, request], 1)
    return Batch(
        behaviours=ids("behaviour", n_history) * valid.unsqueeze(-1),
        times=times,
        hours=torch.where(times > 0, times // 3600 % 24 + 1, 0),
        lengths=lengths,
        candidate=ids("candidate", _N_CANDIDATES),
        context=ids("context", _N_CANDIDATES),
        profile=ids("profile"),
        numeric=torch.rand(3, _N_CANDIDATES, len(schema.numeric)),
        label=torch.zeros(3, _N_CANDIDATES),
    )


def _only_candidate(passes: Batch, index: int) -> Batch:
    n_history = passes.behaviours.shape[1]
    columns = [*range(n_history), n_history + index]
    own = {
        name: getattr(passes, name)[:, index]
        for name in ("candidate", "context", "numeric", "label")
    }
    return replace(passes, times=passes.times[:, columns], hours=passes.hours[:, columns], **own)


def _rows(batch: Batch, row: int) -> Batch:
    cut: Callable[[Tensor], Tensor] = lambda x: x[row : row + 1]  # noqa: E731
    return replace(batch, **{k: cut(v) for k, v in vars(batch).items() if isinstance(v, Tensor)})


def _require_equal(
    options: ModelOptions, one: Tensor, other: Tensor, what: str, *, exact: bool = False
) -> None:
    difference = (one - other).abs().max().item()
    if difference > (0 if exact else _TOLERANCE):
        raise _error(options, f"{what} (logits differ by {difference:.2g})", "equal logits")


def _error(options: ModelOptions, what: str, expected: str) -> ModelError:
    text = " ".join(what.split())[:240]
    return ModelError(f"{options.kind}: {text}; expected {expected}")
