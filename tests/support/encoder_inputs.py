"""Inputs of encoders: a schema, random passes, and the same passes cut or padded."""

from dataclasses import dataclass, field, fields, replace

import torch

from models.encoder import EncoderInput


@dataclass(frozen=True)
class Feature:
    name: str
    vocabulary: str
    max_values: int = 1
    pooling: str = "mean"
    weighted: bool = False


def features(*names):
    return tuple(Feature(name, name) for name in names)


@dataclass(frozen=True)
class SmallSchema:
    behaviour: tuple = features("item", "category", "action")
    candidate: tuple = features("item", "category")
    context: tuple = features("position")
    profile: tuple = features("age", "city")
    numeric: tuple = ()
    vocabularies: dict = field(default_factory=dict)


def embed(inputs, table, schema=SmallSchema()):
    """Look the ids up in one table [rows, d]; profile and context get rows of their own."""

    def flat(ids):
        return table[ids].flatten(-2)

    own_ids = [inputs["candidate_ids"][..., : len(schema.candidate)], inputs["context_ids"]]
    return EncoderInput(
        tokens_BND=flat(torch.cat([inputs["history_ids"], inputs["candidate_ids"]], 1)),
        own_BMC=flat(torch.cat(own_ids, -1)),
        profile_BPd=table[inputs["profile_ids"]],
        times=inputs["times"],
        hours=(inputs["times"] // 3600 % 24 + 1) * (inputs["times"] > 0),
        lengths=inputs["lengths"],
        token_ids=torch.cat([inputs["history_ids"], inputs["candidate_ids"]], 1),
        n_candidates=inputs["candidate_ids"].shape[1],
    )


def random_ids(lengths, n_history, n_candidates, *, n_rows=40, seed=0, schema=SmallSchema()):
    """Ids and times of passes whose candidates share a request; the last behaviour slot is no candidate's."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randint(1, n_rows, shape, generator=generator)

    batch, n1 = len(lengths), len(schema.behaviour)
    lengths = torch.tensor(lengths)
    valid = torch.arange(n_history) >= (n_history - lengths)[:, None]
    candidate_ids = draw(batch, n_candidates, n1)
    candidate_ids[..., len(schema.candidate) :] = 0
    times = draw(batch, n_history).mul(1000).cumsum(1) + 10**9
    request = times[:, -1:] + 500 if n_history else torch.full((batch, 1), 10**9)
    return {
        "history_ids": draw(batch, n_history, n1) * valid.unsqueeze(-1),
        "candidate_ids": candidate_ids,
        "context_ids": draw(batch, n_candidates, len(schema.context)),
        "profile_ids": draw(batch, len(schema.profile)),
        "times": torch.cat([times * valid, request.expand(-1, n_candidates)], 1),
        "lengths": lengths,
    }


def random_inputs(lengths, n_history, n_candidates, *, d=4, seed=0, schema=SmallSchema()):
    """Float64 passes; a table of random rows, of which row 0 is zero."""
    table = torch.randn(40, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    table[0] = 0
    ids = random_ids(lengths, n_history, n_candidates, seed=seed, schema=schema)
    return embed(ids, table, schema)


def only_candidate(inputs, index):
    """The pass with one of its candidates; with `ends`, with the history before it."""
    n_history, one = inputs.n_history, slice(index, index + 1)
    changed = {
        name: getattr(inputs, name)[:, one]
        for name in ("own_BMC", "present")
        if getattr(inputs, name) is not None
    }
    for name in ("tokens_BND", "token_ids", "times", "hours"):
        value = getattr(inputs, name)
        changed[name] = torch.cat([value[:, :n_history], value[:, n_history:][:, one]], 1)
    return replace(inputs, **changed, n_candidates=1)


def only_pass(inputs, index):
    """One pass of several, without its padding."""
    one = slice(index, index + 1)
    cut = {
        f.name: getattr(inputs, f.name)[one]
        for f in fields(inputs)
        if isinstance(getattr(inputs, f.name), torch.Tensor)
    }
    return trim(replace(inputs, **cut), inputs.n_history - int(inputs.lengths[index]))


def trim(inputs, n):
    """Without the first `n` columns of the history; padding in front for negative n."""
    if n < 0:

        def shift(x):
            return torch.cat([x.new_zeros(len(x), -n, *x.shape[2:]), x], 1)

    else:

        def shift(x):
            return x[:, n:]

    names = ("tokens_BND", "token_ids", "times", "hours")
    changed = {name: shift(getattr(inputs, name)) for name in names}
    if inputs.ends is not None:
        changed["ends"] = inputs.ends - n
    return replace(inputs, **changed)


def cut_at(inputs, end):
    """One pass whose history ends before column `end`."""
    n_history = inputs.n_history
    changed = {}
    for name in ("tokens_BND", "token_ids", "times", "hours"):
        value = getattr(inputs, name)
        changed[name] = torch.cat([value[:, :end], value[:, n_history:]], 1)
    lengths = inputs.lengths - (n_history - end)
    return replace(inputs, **changed, lengths=lengths, ends=None)
