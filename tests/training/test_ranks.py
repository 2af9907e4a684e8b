"""Several processes that train one cell: the numbers of one process, one step to stop at, ranks that die or hang."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from rank_processes import (
    die_or_hang,
    largest_of_ranks,
    losses_and_logits,
    losses_of_both,
    rank_config,
    run_ranks,
    train_on_disk,
)

from models.model_options import EncoderOptions
from scaling.batches import Share, iterate_test, iterate_training
from scaling.errors import UserError
from scaling.records import RunStore
from scaling.synthetic import SyntheticConfig, generate_logs
from scaling.training import ALONE, Ranks, Training

KINDS = ("plain", "request", "stretch", "lightsuan", "distilled", "uneven")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    config = SyntheticConfig(n_train=1024, n_test=200, n_items=300, warmup_events=10)
    return generate_logs(tmp_path_factory.mktemp("ranks") / "log", config)


@pytest.fixture(scope="module")
def traces(data, tmp_path_factory):
    path = str(data.path)
    folder = tmp_path_factory.mktemp("traces")
    ours = run_ranks(losses_and_logits, 2, folder, path, KINDS)[0]
    return {1: losses_and_logits(ALONE, path, KINDS), 2: ours}


# losses: sums of float32 in another order
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_give_the_losses_and_predictions_of_one(traces, kind):
    for ours, alone, tolerance in zip(traces[2][kind], traces[1][kind], (1e-6, 2e-5), strict=True):
        np.testing.assert_allclose(ours, alone, rtol=0, atol=tolerance)


# kinds that ranks train for 384 steps, with the table whole and divided
LONG = {4: (("plain",), ("plain",)), 2: (KINDS[1:5], ("request", "stretch"))}


# one test, so that one process computes what all are compared with
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_384_steps_of_several_ranks_give_the_losses_of_one(tmp_path):
    config = SyntheticConfig(n_train=24_576, n_test=200, n_items=2000, warmup_events=10)
    path = str(generate_logs(tmp_path / "log", config).path)
    alone = losses_and_logits(ALONE, path, KINDS[:5], 24_576)
    for n_ranks, kinds in LONG.items():
        found = run_ranks(losses_of_both, n_ranks, tmp_path, path, kinds, 24_576)[0]
        for table, traces in zip(("whole", "divided"), found, strict=True):
            for kind, (ours, _) in traces.items():
                what = f"{kind}, {n_ranks} ranks, {table} table"
                np.testing.assert_allclose(ours, alone[kind][0], 0, 1e-6, err_msg=what)


@pytest.mark.slow
def test_what_one_rank_wishes_is_told_to_all(tmp_path):
    assert run_ranks(largest_of_ranks, 3, tmp_path) == [[2, 3, 1]] * 3


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_shares_are_all_of_a_step_once(data, count):
    ends = np.array([50, 101])
    steps = [
        list(iterate_training(data, ends, 8, 7, share=Share(number, count)))
        for number in range(count)
    ]
    for step in range(2):
        labels = sum(len(part.label) for share in steps for part in share[step])
        assert labels == np.diff(ends, prepend=0)[step]


def test_shares_of_the_test_part_are_its_batches(data):
    whole = [rows.tolist() for rows, _ in iterate_test(data, 8, 300)]
    shares = [[r.tolist() for r, _ in iterate_test(data, 8, 300, Share(n, 2))] for n in (0, 1)]
    assert len(shares[0]) == len(shares[1])
    assert [rows for pair in zip(*shares, strict=True) for rows in pair if rows] == whole


def values(document):
    return {k: v for k, v in document["numbers"].items() if k in ("train_loss", "metrics")}


def assert_close(one, other):
    assert one["train_loss"] == pytest.approx(other["train_loss"], abs=1e-6)
    assert one["metrics"] == pytest.approx(other["metrics"], abs=1e-5)


@pytest.mark.slow
def test_a_run_stopped_at_two_ranks_goes_on_at_another_number(data, tmp_path):
    whole = train_on_disk(ALONE, str(data.path), str(tmp_path / "one"), None)
    for later in (1, 4):
        runs = tmp_path / f"then-{later}"
        stopped = run_ranks(train_on_disk, 2, tmp_path, str(data.path), str(runs), 5)
        assert [one["steps"][-1] + 1 for one in stopped] == [5, 5]
        assert "asked to, saved at step 5" in stopped[1]["stopped"]
        resumed = run_ranks(train_on_disk, later, tmp_path, str(data.path), str(runs), None)
        assert all(one["steps"][0] == 5 for one in resumed)
        assert_close(values(resumed[0]), values(whole))
        (record,) = (json.loads(p.read_text()) for p in runs.glob("*/record.json"))
        assert [a.get("ranks") for a in record["provenance"]["attempts"]] == [2, later]


@pytest.mark.slow
def test_with_dropout_a_stopped_run_of_two_ranks_ends_as_an_undisturbed_one(data, tmp_path):
    """A checkpoint has the state of rank 0 alone, so the masks of a step must not depend on the steps before."""
    runs, path = str(tmp_path / "stopped"), str(data.path)
    whole = run_ranks(train_on_disk, 2, tmp_path, path, str(tmp_path / "whole"), None, "dropout")
    run_ranks(train_on_disk, 2, tmp_path, path, runs, 5, "dropout")
    resumed = run_ranks(train_on_disk, 2, tmp_path, path, runs, None, "dropout")
    assert resumed[0]["steps"][0] == 5
    assert resumed[0]["numbers"] == whole[0]["numbers"]


@pytest.mark.slow
def test_if_a_rank_dies_the_others_end_and_the_cell_is_free(data, tmp_path):
    runs = tmp_path / "runs"
    found = run_ranks(die_or_hang, 2, tmp_path, str(data.path), str(runs), "die")
    assert found[1] is None
    assert found[0].startswith("RankLostError: another rank has ended or does not answer")
    signature = rank_config(data, "plain").signature
    assert RunStore(runs).state(signature).failure == "lost"
    again = train_on_disk(ALONE, str(data.path), str(runs), None)
    assert "numbers" in again


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "failure", "message"),
    [
        ("memory", "oom", "rank 1: MemoryError: no room for the gradients"),
        ("user", "exception", "rank 1: this node does not see the data"),
    ],
)
def test_the_error_of_another_rank_is_that_of_the_run(data, tmp_path, how, failure, message):
    runs = tmp_path / "runs"
    found = run_ranks(die_or_hang, 2, tmp_path, str(data.path), str(runs), how)
    assert found[0].startswith("RankLostError")
    state = RunStore(runs).state(rank_config(data, "plain").signature)
    assert (state.failure, state.message) == (failure, message)
    assert not list(tmp_path.glob("meeting*"))


@pytest.mark.slow
def test_a_rank_that_hangs_counts_as_lost_after_a_while(data, tmp_path):
    begin = time.monotonic()
    arguments = (str(data.path), str(tmp_path / "runs"), "hang")
    found = run_ranks(die_or_hang, 2, tmp_path, *arguments, answer_seconds=3.0)
    assert time.monotonic() - begin < 60
    assert found[0].startswith("RankLostError")


def test_a_model_with_statistics_over_a_batch_is_refused(data):
    din = EncoderOptions("din", {"activation": "dice", "softmax": False})
    config = replace(rank_config(data, "plain"), model=din)
    with pytest.raises(UserError, match=r"\(Dice\) takes statistics over a batch"):
        Training(config, data, ranks=Ranks(0, 2))
