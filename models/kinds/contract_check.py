"""Runs an encoder of somebody else on small random passes, and checks what the protocol promises of it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.ctr_model import Batch, CTRModel
from models.embeddings import weight_columns
from models.encoder import EncoderInput
from models.grades import Grade
from models.input_schema import InputSchema, n_columns, n_ids
from models.kinds.building import build_model
from models.kinds.known_kinds import encoder_class, read_options
from models.kinds.own_class import ModelError
from models.model_options import ModelOptions

__all__ = ["check_contract"]


_LENGTHS, _N_CANDIDATES = (9, 4, 0), 3
# float32 sums in another order
_TOLERANCE = 1e-4


def check_contract(grade: Grade, options: ModelOptions, schema: InputSchema) -> None:
    """Check an encoder: its sizes, shapes, determinism, gradients, training, and the packing that it declares.

    Raises:
        ModelError: one line that names the class, what it did and what was expected.
    """
    try:
        with _own_random_numbers():
            _seed(0)
            _check(grade, options, schema)
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        raise _error(options, f"fails: {type(error).__name__}: {error}", "a pass") from error


def _check(grade: Grade, options: ModelOptions, schema: InputSchema) -> None:
    encoder = encoder_class(options.kind)(grade, read_options(options), schema)
    n_out = getattr(encoder, "n_out", None)
    if not isinstance(n_out, int) or n_out < 1:
        raise _error(options, "has no n_out", "the width of its vectors, set in __init__")
    model = build_model(grade, options, schema, base_rate=0.3, seed=1)
    passes = _passes(schema, min(grade.max_len, max(_LENGTHS)))
    one = _only_candidate(passes, 0)
    model.eval()
    first, second = (_encode(options, model, one) for _ in range(2))
    _require_equal(options, first, second, "two passes in evaluation differ", exact=True)
    again = build_model(grade, options, schema, base_rate=0.3, seed=1).eval()
    other = _encode(options, again, one)
    _require_equal(options, first, other, "two builds with one seed differ", exact=True)
    _move_from_start(model)
    _check_padding(options, model, one)
    _check_packing(options, model, passes)
    _check_training(options, model, one)
    model(one).sum().backward()
    own = dict(model.encoder.named_parameters())
    if any(p.grad is not None and not torch.isfinite(p.grad).all() for p in own.values()):
        raise _error(
            options,
            "a gradient is not finite",
            "finite gradients, also for passes without a history",
        )
    if own and not any(p.grad is not None and p.grad.any() for p in own.values()):
        raise _error(options, "no parameter gets a gradient", "a differentiable pass")


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - a class may draw from it
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def _seed(seed: int) -> None:
    """Seed every generator that is global."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002


def _check_training(options: ModelOptions, model: CTRModel, one: Batch) -> None:
    """A checkpoint and a seed must fix a pass in training, and a batch may be as small as one impression."""
    model.train()
    kept = {name: value.clone() for name, value in model.state_dict().items()}

    def encoded(seed: int) -> Tensor:
        model.load_state_dict(kept)
        model.encoder.dropout_generator = torch.Generator().manual_seed(0)
        _seed(seed)
        return _encode(options, model, one)

    first = encoded(1)
    _require_equal(
        options,
        first,
        encoded(1),
        "two passes in training differ, with the same parameters, buffers and random numbers",
        "no clock, and no state but in buffers, which checkpoints hold",
        exact=True,
    )
    _require_equal(
        options,
        first,
        encoded(2),
        "in training it draws from a global random generator, as nn.Dropout does, so no run could be repeated",
        "self.apply_dropout(x, rate), or numbers from self.dropout_generator",
        exact=True,
    )
    for row in (0, len(_LENGTHS) - 1):
        try:
            _encode(options, model, _rows(one, row))
        except ModelError:
            raise
        except Exception as error:
            what = (
                f"fails in training on a batch of one impression: {type(error).__name__}: {error}"
            )
            raise _error(
                options, what, "a pass, as the last part of a batch may be that small"
            ) from error


@torch.no_grad()
def _move_from_start(model: CTRModel) -> None:
    """Move parameters away from zero, where a part of the encoder may have no effect yet."""
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.embeddings.weight[0] = 0


@torch.no_grad()
def _encode(options: ModelOptions, model: CTRModel, batch: Batch) -> Tensor:
    """Return what the encoder gives, [B, M, n_out]."""
    seen: list[Tensor] = []

    def see(_: object, given: tuple[EncoderInput], out: object) -> None:
        seen.append(_checked(options, given[0], out, model))

    hook = model.encoder.register_forward_hook(see)
    try:
        model(batch)
    finally:
        hook.remove()
    return seen[0]


def _checked(options: ModelOptions, inputs: EncoderInput, out: object, model: CTRModel) -> Tensor:
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
    return out


def _check_padding(options: ModelOptions, model: CTRModel, batch: Batch) -> None:
    """A pass alone, without the padding that longer histories bring, has the same vectors."""
    n_history = batch.behaviours.shape[1]
    together = _encode(options, model, batch)
    for row, length in enumerate(batch.lengths.tolist()):
        cut = n_history - max(length, 1)
        alone = replace(
            _rows(batch, row),
            behaviours=batch.behaviours[row : row + 1, cut:],
            times=batch.times[row : row + 1, cut:],
            hours=batch.hours[row : row + 1, cut:],
        )
        what = "padding or the other passes of a batch change it"
        _require_equal(options, _encode(options, model, alone)[0], together[row], what)


def _check_packing(options: ModelOptions, model: CTRModel, passes: Batch) -> None:
    declared: object = model.encoder.packing(model.options)
    if not isinstance(declared, tuple) or not set(declared) <= {"request", "stretch"}:
        raise _error(
            options, f"packing returned {declared!r}", 'a tuple with any of "request" and "stretch"'
        )
    if "request" in declared:
        packed = _encode(options, model, passes)
        for index in range(_N_CANDIDATES):
            alone = _encode(options, model, _only_candidate(passes, index))
            what = "it declares packing request, but candidates change each other"
            _require_equal(options, packed[:, [index]], alone, what)
    if "stretch" in declared:
        _check_stretch(options, model, passes)


def _check_stretch(options: ModelOptions, model: CTRModel, passes: Batch) -> None:
    """Each candidate reads the history before its own request, as if it were alone."""
    n_history = passes.behaviours.shape[1]
    whole = _rows(passes, 0)
    ends = torch.tensor([[n_history // 3, n_history // 2, n_history]])
    packed = _encode(options, model, replace(whole, ends=ends))
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
        what = "it declares packing stretch, but a candidate reads more than the history before its request"
        _require_equal(options, packed[:, [index]], _encode(options, model, alone), what)


def _passes(schema: InputSchema, n_history: int) -> Batch:
    """Three packed passes: a full history, a short one and none."""
    lengths = torch.tensor([min(length, n_history) for length in _LENGTHS])
    valid = torch.arange(n_history) >= (n_history - lengths)[:, None]

    def ids(group: str, *shape: int) -> Tensor:
        features = getattr(schema, group)
        sizes = [schema.vocabularies[f.vocabulary] for f in features for _ in range(f.max_values)]
        columns = [torch.randint(1, max(2, size), (3, *shape)) for size in sizes]
        n_weights = n_columns(features) - n_ids(features)
        columns += list(weight_columns(torch.rand(n_weights, 3, *shape) + 0.1))
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
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    return replace(batch, **{name: value[row : row + 1] for name, value in tensors.items()})


def _require_equal(
    options: ModelOptions,
    one: Tensor,
    other: Tensor,
    what: str,
    expected: str = "equal vectors",
    *,
    exact: bool = False,
) -> None:
    scale = max(one.abs().max().item(), other.abs().max().item(), 1e-12)
    difference = (one - other).abs().max().item() / scale
    if difference > (0 if exact else _TOLERANCE):
        raise _error(
            options, f"{what} (vectors differ by {difference:.2g} of the largest)", expected
        )


def _error(options: ModelOptions, what: str, expected: str) -> ModelError:
    text = " ".join(what.split())[:240]
    return ModelError(f"{options.kind}: {text}; expected {expected}")
