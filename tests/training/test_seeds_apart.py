"""Initialisation, dropout and order draw from seeds of their own, and each rank from another seed of dropout."""

from dataclasses import replace

import numpy as np
import pytest
from small_runs import small_config

import scaling.training.learner
from models.grades import GRADES
from scaling.batches import Epoch, order_key
from scaling.batches.permutation import permuted_rows
from scaling.training import ALONE, Ranks
from scaling.training.learner import Learner


@pytest.fixture
def config(tiny_store):
    return small_config(tiny_store)


@pytest.fixture
def seeds(tiny_store, monkeypatch):
    """Return the seeds of initialisation and of dropout that a config's learner draws from."""
    found, build = [], scaling.training.learner.build_model

    def built(*arguments, seed, **named):
        found.append(seed)
        return build(*arguments, seed=seed, **named)

    monkeypatch.setattr(scaling.training.learner, "build_model", built)

    def of(config, ranks=ALONE):
        model = Learner(config, tiny_store, "cpu", ranks=ranks).model
        return found[-1], model.encoder.dropout_generator.initial_seed()

    return of


def test_every_seed_of_a_run_has_two_of_its_own(config, seeds):
    drawn = [seed for number in range(4) for seed in seeds(replace(config, seed=number))]
    assert len(set(drawn)) == 8


def test_they_depend_on_nothing_but_the_runs_seed(config, seeds):
    other = replace(config, n_samples=160, learning_rate=0.1, grade=GRADES["SUAN-2"])
    assert seeds(other) == seeds(config)


def test_several_ranks_start_alike_and_drop_other_places(config, seeds):
    drawn = [seeds(config, Ranks(rank, 3)) for rank in range(3)]
    assert drawn[0] == seeds(config)
    assert len({init for init, _ in drawn}) == 1
    assert len({dropout for _, dropout in drawn}) == 3


def test_seeds_and_grades_draw_impressions_of_their_own(config, tiny_store):
    other_seed, other_grade = replace(config, seed=1), replace(config, grade=GRADES["SUAN-2"])
    rows = [Epoch(c, tiny_store).rows().tolist() for c in (config, other_seed, other_grade)]
    # 320 of 1,200 rows: about a quarter of two draws is the same, in other places
    assert max(len(set(rows[0]) & set(more)) for more in rows[1:]) < 160
    assert all(sum(map(int.__eq__, rows[0], more)) < 10 for more in rows[1:])


def test_the_order_is_not_drawn_from_a_seed_of_the_model(config, tiny_store, seeds):
    keys = [*seeds(config), order_key("init", 0), order_key("dropout", 0)]
    places = np.arange(320)
    rows = Epoch(config, tiny_store).rows()
    assert all((permuted_rows(places, tiny_store.n_train, key) != rows).any() for key in keys)
