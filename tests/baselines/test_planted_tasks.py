"""Small tasks that one mechanism solves; an encoder without it stays at chance on the same data.

Each runs a few hundred steps on 256 fresh random passes a step, and is scored on fresh ones.
"""

from dataclasses import replace

import pytest
import torch
from encoder_inputs import SmallSchema, embed, random_ids, trim
from slow_cases import fast_only
from torch.nn import functional as F

from models.baselines import (
    BST,
    DIN,
    HSTU,
    SIM,
    BSTOptions,
    DCNv2,
    DCNv2Options,
    DINOptions,
    HSTUOptions,
    RankMixer,
    RankMixerOptions,
    SIMOptions,
)
from models.encoder import Encoder
from models.grades import Grade

SCHEMA = SmallSchema()


def accuracy(kind, options, plant, *, n_history, d=4, n_steps=60, see=lambda inputs: inputs):
    """Train embeddings, encoder and a linear head; return the share of fresh passes that they label right.

    `see` is what of a pass the encoder gets.
    """
    torch.manual_seed(0)
    encoder = kind(Grade(1, 1, d, n_history), options, SCHEMA)
    table = torch.nn.Parameter(torch.randn(40, d) * 0.5)
    head = torch.nn.Linear(encoder.n_out, 1)
    optimiser = torch.optim.Adam([table, *encoder.parameters(), *head.parameters()], 0.01)

    def logits(seed):
        ids = random_ids([n_history] * 256, n_history, 1, seed=seed)
        label = plant(ids, torch.Generator().manual_seed(seed))
        inputs = see(embed(ids, table * (torch.arange(40) > 0).unsqueeze(1), SCHEMA))
        return head(encoder(inputs))[:, 0, 0], label

    for step in range(n_steps):
        logit, label = logits(step)
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(logit, label.float()).backward()
        optimiser.step()
    encoder.eval()
    with torch.no_grad():
        right = [(logit > 0) == label for logit, label in map(logits, range(10**6, 10**6 + 4))]
    return torch.cat(right).float().mean().item()


def action_of_the_same_item(ids, generator):
    """The candidate's item was in the history once, at a random place; its action there is the label."""
    batch, n_history = ids["history_ids"].shape[:2]
    items = ids["candidate_ids"][:, 0, 0]
    others = ids["history_ids"][..., 0]
    others[others == items[:, None]] = 0  # an item nobody asks for
    place = torch.randint(0, n_history, (batch,), generator=generator)
    others[torch.arange(batch), place] = items
    actions = ids["history_ids"][..., 2]
    actions.copy_(torch.randint(1, 3, actions.shape, generator=generator))
    return actions[torch.arange(batch), place] == 1


def action_long_ago(ids, generator):
    """The same, but not among the latest 16 behaviours."""
    n_history = ids["history_ids"].shape[1]
    early = {
        "history_ids": ids["history_ids"][:, : n_history - 16],
        "candidate_ids": ids["candidate_ids"],
    }
    late = ids["history_ids"][:, n_history - 16 :]
    late[..., 2] = torch.randint(1, 3, late.shape[:2], generator=generator)
    late[..., 0][late[..., 0] == ids["candidate_ids"][:, :, 0]] = 0
    return action_of_the_same_item(early, generator)


def which_came_last(ids, generator):
    """The history is two items, each half of the time first: the label is the last one."""
    items = ids["history_ids"][..., 0]
    first = torch.randint(0, 2, (len(items),), generator=generator)
    ids["history_ids"][:] = 1
    items[:, -1], items[:, -2] = 2 + first, 3 - first
    return first == 0


def same_parity(ids, generator):
    """The profile and the candidate have one of two values each: the label says whether they agree."""
    values = torch.randint(0, 2, (2, len(ids["lengths"])), generator=generator)
    ids["profile_ids"][:, 0], ids["candidate_ids"][:, 0, 0] = 1 + values[0], 3 + values[1]
    return values[0] == values[1]


def asked_soon(ids, generator):
    """All behaviours are alike; the last is a minute or a day before the request."""
    soon = torch.randint(0, 2, (len(ids["lengths"]),), generator=generator) == 1
    ids["history_ids"][:] = 1
    ids["times"][:, -1] = ids["times"][:, -2] + torch.where(soon, 60, 86_400)
    return soon


class Additive(Encoder):
    """The features side by side."""

    options_type = DCNv2Options

    def __init__(self, grade, options, schema):
        super().__init__(grade, options, schema)
        self.n_out = 5 * grade.d

    def forward(self, inputs):
        return torch.cat([inputs.profile_BPd.flatten(1).unsqueeze(1), inputs.own_BMC], -1)


SOLVED, CHANCE = 0.9, 0.6


@pytest.mark.slow
def test_din_attends_to_the_behaviour_with_the_same_item():
    plant = action_of_the_same_item
    assert accuracy(DIN, DINOptions(), plant, n_history=8, d=8, n_steps=120) > SOLVED


def test_the_features_of_a_candidate_do_not_tell_its_last_action():
    assert accuracy(DCNv2, DCNv2Options(), action_of_the_same_item, n_history=8) < CHANCE


@pytest.mark.parametrize(
    ("kind", "options"),
    fast_only(
        [(BST, BSTOptions()), (HSTU, HSTUOptions())],
        [
            (BST, BSTOptions()),
            (BST, BSTOptions(causal=False, positions="start")),
            (HSTU, HSTUOptions()),
            (HSTU, HSTUOptions(form="ranking")),
        ],
        unpack=True,
    ),
    ids=str,
)
def test_a_sequence_model_knows_the_order(kind, options):
    assert accuracy(kind, options, which_came_last, n_history=6, d=8, n_steps=90) > SOLVED


def test_a_sum_over_behaviours_does_not_know_their_order():
    assert accuracy(DIN, DINOptions(), which_came_last, n_history=6) < CHANCE


def test_hstu_knows_the_time_until_the_request():
    assert accuracy(HSTU, HSTUOptions(), asked_soon, n_history=4) > SOLVED


def test_without_its_bias_hstu_knows_no_time():
    assert accuracy(HSTU, HSTUOptions(bias=False), asked_soon, n_history=4) < CHANCE


@pytest.mark.parametrize(
    ("kind", "options"), [(RankMixer, RankMixerOptions()), (DCNv2, DCNv2Options())], ids=str
)
def test_products_of_features_are_learned(kind, options):
    assert accuracy(kind, options, same_parity, n_history=2) > SOLVED


def test_features_side_by_side_give_no_product():
    assert accuracy(Additive, DCNv2Options(), same_parity, n_history=2) < CHANCE


@pytest.mark.parametrize(
    "options",
    fast_only(
        [SIMOptions(k=8)],
        [
            SIMOptions(k=8),
            SIMOptions(k=8, search="hard", category="item"),
            SIMOptions(k=24, search="eta"),  # signs of few columns are a coarse measure
            SIMOptions(k=8, search="twin"),
        ],
    ),
    ids=str,
)
def test_a_search_finds_one_behaviour_in_a_long_history(options):
    assert accuracy(SIM, options, action_long_ago, n_history=48, d=8, n_steps=150) > SOLVED


@pytest.mark.slow
def test_a_short_window_does_not_hold_it():
    def latest(inputs):
        return replace(trim(inputs, 32), lengths=inputs.lengths - 32)

    assert accuracy(DIN, DINOptions(), action_long_ago, n_history=48, see=latest) < CHANCE
