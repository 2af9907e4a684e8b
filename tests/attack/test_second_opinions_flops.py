"""FLOPs of every kind on the whole ladder: counted by hand from the papers' equations, and by torch as a real pass runs."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.ctr_model import Batch
from models.grades import GRADES
from models.kinds import KINDS, options_of, options_type, size_of
from models.kinds.building import build_model
from models.model_options import SuanOptions
from scaling.store import Feature, Schema

SCHEMA = Schema(
    behaviour=(Feature("item", "item"), Feature("action", "action")),
    candidate=(Feature("item", "item"), Feature("price", "price")),
    context=(Feature("hour", "hour"),),
    profile=(Feature("age", "age"), Feature("city", "city")),
    numeric=("ctr",),
    vocabularies={"item": 30, "action": 4, "price": 7, "hour": 26, "age": 9, "city": 12},
)
N_BEHAVIOUR, N_PROFILE, N_FLAT, N_NUMERIC = 2, 2, 5, 1
# HSTU's causal scores are computed for so many queries at a time
QUERIES = 64


def options(kind):
    own = SuanOptions(kind=kind) if kind in ("suan", "lightsuan") else options_type(kind)()
    return options_of(kind, own)


def layers(*widths):
    """FLOPs of linear layers on one row."""
    return sum(2 * n_in * n_out for n_in, n_out in pairwise(widths))


def suan(grade, n_keys):
    width, n = N_BEHAVIOUR * grade.d, grade.max_len + 1
    block = 8 * n * width**2 + 4 * n * n_keys * width  # q, k, v, out; scores and sum
    block += 4 * n * width**2 + 4 * N_PROFILE * grade.d * width + 4 * n * N_PROFILE * width
    block += layers(width, max(1, width // 4)) + 2 * layers(max(1, width // 4), width)  # the gate
    block += 3 * n * layers(width, 3 * width)
    return grade.n_layers * block + n * layers(grade.d, width), width


def light_keys(n, window=16, dilation=16):
    """Of the last of n tokens: the latest `window` tokens, and every `dilation`-th one before."""
    return sum(back < window or back % dilation == 0 for back in range(n))


def din(grade):
    width, length = N_BEHAVIOUR * grade.d, grade.max_len
    hidden = [2 * width] * grade.n_layers + [width, 1]
    # [t, h, t - h, t * h] times the first weight: the part of t once, that of h with diag(t) folded in for each behaviour
    first = layers(width, hidden[0]) + length * layers(width, hidden[0])
    return first + length * layers(*hidden) + 2 * length * width, width


def bst(grade):
    width, length = (N_BEHAVIOUR + 1) * grade.d, grade.max_len
    candidate = 12 * width**2 + 4 * length * width
    block = 12 * length * width**2 + 4 * length**2 * width + candidate
    last = 4 * length * width**2 + candidate  # keys and values only of what no one reads on
    return (grade.n_layers - 1) * block + last, width


def hstu(grade):
    width, length = N_BEHAVIOUR * grade.d, grade.max_len
    candidate = 10 * width**2 + 4 * length * width
    stops = [min(start + QUERIES, length) for start in range(0, length, QUERIES)]
    causal = sum((b - a) * b for a, b in pairwise([0, *stops]))
    layer = 10 * length * width**2 + 4 * causal * width + candidate
    last = 4 * length * width**2 + candidate
    return (2 * grade.n_layers - 1) * layer + last, width  # two layers for each of the grade's


def rankmixer(grade, n_tokens=4, expansion=2):
    n_in, width = (N_FLAT + N_BEHAVIOUR) * grade.d, 4 * grade.d
    first = 2 * grade.max_len * N_BEHAVIOUR * grade.d  # the mean of the history
    first += n_tokens * layers(math.ceil(n_in / n_tokens), width)
    return first + grade.n_layers * n_tokens * layers(width, expansion * width, width), width


def dcnv2(grade):
    width = N_FLAT * grade.d
    return (grade.n_layers + 1) * 2 * layers(width, width), 2 * width


def sim(grade):
    width, length = N_BEHAVIOUR * grade.d, grade.max_len
    k = min(max(8, math.ceil(2 * length**0.5)), length)
    attention = 2 * layers(width, width) + k * layers(width + grade.d, 2 * width) + 4 * k * width
    feed_forward = layers(width, 2 * width, width)
    return 2 * length * width + grade.n_layers * (attention + feed_forward), width


BY_HAND = {
    "suan": lambda grade: suan(grade, grade.max_len + 1),
    "lightsuan": lambda grade: suan(grade, light_keys(grade.max_len + 1)),
    "din": din,
    "bst": bst,
    "hstu": hstu,
    "rankmixer": rankmixer,
    "dcnv2": dcnv2,
    "sim": sim,
}


def test_every_kind_is_counted_by_hand():
    assert set(BY_HAND) == set(KINDS)


def assert_counted_by_hand(kind, grades):
    for grade in grades:
        encoder, width = BY_HAND[kind](grade)
        n_in = width + N_FLAT * grade.d + N_NUMERIC
        head = layers(n_in, 16 * grade.d, 8 * grade.d, 1)
        assert size_of(grade, options(kind), SCHEMA).flops_per_sample == encoder + head, grade


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_those_counted_by_hand(kind):
    assert_counted_by_hand(kind, [GRADES[f"SUAN-{i}"] for i in (0, 3, 6)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_flops_of_the_whole_ladder_are_those_counted_by_hand(kind):
    # torch counts HSTU tile by tile, which takes a minute for the last rungs
    names = [name for name in GRADES if kind != "hstu" or GRADES[name].max_len <= 1300]
    assert_counted_by_hand(kind, [GRADES[name] for name in names])


def full_pass(length):
    """One impression with a full history of distinct events."""
    rng = np.random.default_rng(0)

    def ids(features, *shape):
        columns = [rng.integers(2, SCHEMA.vocabularies[f.vocabulary], shape) for f in features]
        return torch.from_numpy(np.stack(columns, -1))

    return Batch(
        behaviours=ids(SCHEMA.behaviour, 1, length),
        times=torch.arange(length + 1)[None] * 60,
        hours=torch.ones(1, length + 1, dtype=torch.int64),
        lengths=torch.full((1,), length),
        candidate=ids(SCHEMA.candidate, 1),
        context=ids(SCHEMA.context, 1),
        profile=ids(SCHEMA.profile, 1),
        numeric=torch.ones(1, 1),
        label=torch.ones(1),
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["SUAN-0", "SUAN-3", "SUAN-6"])
def test_a_real_pass_computes_what_is_counted(name, kind):
    """SUAN counts as the paper does: a CPU leaves out what nothing reads, of the last block and of the future."""
    grade = GRADES[name]
    model = build_model(grade, options(kind), SCHEMA, base_rate=0.5, seed=0).eval()
    batch = full_pass(grade.max_len)
    # torch's counter knows attention as plain products only
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(batch)
    share = counter.get_total_flops() / size_of(grade, options(kind), SCHEMA).flops_per_sample
    least, most = {
        "suan": (0.5, 1),
        "lightsuan": (0.6, 1),
        "bst": (0.3, 1),  # one block: the last query is projected onto the keys instead
        "hstu": (0.97, 1.03),  # other tiles of the causal half, and the candidate's own key
    }.get(kind, (1, 1))
    assert least <= share <= most
