"""A feature table divided among ranks: the numbers of an undivided one, checkpoints for any number of ranks."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from list_logs import write_list_store
from rank_processes import (
    losses_and_logits,
    rank_config,
    rows_on_ranks,
    run_ranks,
    train_on_disk,
)

from scaling.batches import Share
from scaling.records import MODEL_FILE, RunStore
from scaling.synthetic import SyntheticConfig, generate_logs
from scaling.training import ALONE, read_model
from scaling.training.checkpoint import (
    Checkpoint,
    read_checkpoints,
    read_rows,
    save_checkpoint,
    save_rows,
)
from scaling.training.sharded_table import random_rows

KINDS = ("plain", "request", "stretch", "lightsuan", "distilled", "uneven")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    config = SyntheticConfig(n_train=1024, n_test=200, n_items=300, warmup_events=10)
    return generate_logs(tmp_path_factory.mktemp("sharded") / "log", config)


@pytest.fixture(scope="module")
def traces(data, tmp_path_factory):
    path = str(data.path)
    folder = tmp_path_factory.mktemp("traces")
    ours = run_ranks(losses_and_logits, 2, folder, path, KINDS, sharded=True)[0]
    return ours, losses_and_logits(ALONE, path, KINDS)


# sums of float32 in another order
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_divided_table_gives_the_losses_and_predictions_of_one_process(traces, kind):
    ours, alone = (trace[kind] for trace in traces)
    for one, other, tolerance in zip(ours, alone, (1e-6, 2e-5), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.slow
def test_cells_of_several_ids_are_looked_up_in_a_divided_table(tmp_path):
    path = str(write_list_store(tmp_path / "store", n_users=300, n_events=2000, n=900).path)
    ours = run_ranks(losses_and_logits, 2, tmp_path, path, ("plain",), sharded=True)[0]["plain"]
    alone = losses_and_logits(ALONE, path, ("plain",))["plain"]
    for one, other, tolerance in zip(ours, alone, (1e-6, 2e-5), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.slow
def test_each_rank_holds_only_its_rows_and_their_moments(data, tmp_path):
    found = run_ranks(rows_on_ranks, 3, tmp_path, str(data.path))
    n_rows = 1 + sum(size - 1 for size in data.schema.vocabularies.values())
    for rank, (n_values, n_moments) in enumerate(found):
        assert n_values == n_moments == len(range(rank, n_rows, 3))


@pytest.mark.parametrize("n_rows", [3, 17, 65_536, 131_071, 131_073, 200_003])
@pytest.mark.parametrize("d", [1, 3, 8])
def test_rows_are_drawn_as_those_of_a_whole_table(n_rows, d):
    torch.manual_seed(3)
    whole, after = torch.randn(n_rows, d), torch.rand(1)
    for share in (Share(0, 2), Share(1, 2), Share(4, 5)):
        torch.manual_seed(3)
        assert torch.equal(random_rows(n_rows, d, share), share.of(whole))
        assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize("later", [1, 2, 3, 5])
def test_rows_saved_by_two_ranks_are_read_by_another_number(later, tmp_path):
    table = torch.arange(11.0).unsqueeze(1)
    names = []
    for share in (Share(0, 2), Share(1, 2)):
        own = Checkpoint("all", 3, {}, {}, {"table": share.of(table)})
        names.append(save_rows(tmp_path, own, share))
    save_checkpoint(tmp_path, Checkpoint("all", 3, {}, {"row_files": names}))
    (found,) = read_checkpoints(tmp_path, "all")
    for share in (Share(number, later) for number in range(later)):
        assert torch.equal(read_rows(tmp_path, found, share)["table"], share.of(table))


def test_row_files_go_with_their_checkpoints(tmp_path):
    for step in (1, 2, 3):
        rows = Checkpoint("all", step, {}, {}, {"table": torch.zeros(2, 1)})
        name = save_rows(tmp_path, rows, Share(0, 2))
        save_checkpoint(tmp_path, Checkpoint("all", step, {}, {"row_files": [name]}))
    assert sorted(int(p.stem.split("-")[1]) for p in tmp_path.glob("*.rows")) == [2, 3]


@pytest.mark.slow
def test_a_run_with_a_divided_table_goes_on_with_a_whole_one_and_back(data, tmp_path):
    whole = train_on_disk(ALONE, str(data.path), str(tmp_path / "one"), None)
    path = str(tmp_path / "runs")
    # a whole table's checkpoint, one of 2 ranks, one of 3; the last process has all rows again
    for n_ranks, stop_at in ((1, 2), (2, 4), (3, 6), (1, None)):
        found = run_ranks(
            train_on_disk, n_ranks, tmp_path, str(data.path), path, stop_at, sharded=True
        )
    assert found[0]["steps"] == [6, 7]
    for name in ("train_loss", "metrics"):
        assert found[0]["numbers"][name] == pytest.approx(whole["numbers"][name], abs=1e-5)
    (record,) = (json.loads(p.read_text()) for p in tmp_path.glob("runs/*/record.json"))
    attempts = record["provenance"]["attempts"]
    assert [a.get("sharded", False) for a in attempts] == [False, True, True, False]


@pytest.mark.slow
def test_damaged_rows_of_a_checkpoint_are_not_used(data, tmp_path):
    runs = RunStore(tmp_path / "runs")
    arguments = (str(data.path), str(runs.root))
    for stop_at in (2, 4):
        run_ranks(train_on_disk, 2, tmp_path, *arguments, stop_at, sharded=True)
    folder = runs.folder(rank_config(data, "plain").signature) / "checkpoints"
    (latest,) = folder.glob("*-0000000004-1of2-*.rows")
    content = bytearray(latest.read_bytes())
    content[-1] ^= 1
    latest.write_bytes(content)
    resumed = run_ranks(train_on_disk, 2, tmp_path, *arguments, None, sharded=True)
    assert [one["steps"][0] for one in resumed] == [2, 2]


@pytest.mark.slow
def test_the_kept_model_has_the_whole_table(data, tmp_path):
    kept = []
    for sharded in (False, True):
        runs = RunStore(tmp_path / f"runs-{sharded}")
        arguments = (str(data.path), str(runs.root), None)
        if sharded:
            run_ranks(train_on_disk, 2, tmp_path, *arguments, sharded=True)
        else:
            train_on_disk(ALONE, *arguments)
        folder = runs.folder(rank_config(data, "plain").signature)
        assert (folder / MODEL_FILE).exists()
        kept.append(read_model(folder)[0].embeddings.weight)
    torch.testing.assert_close(kept[1], kept[0], rtol=0, atol=1e-5)
    assert not list(tmp_path.glob("runs-*/*/checkpoints"))


@pytest.mark.slow
def test_a_table_that_fits_half_of_a_device_stays_whole(data):
    config = rank_config(data, "plain")
    size = replace(config.held_size(data.schema), n_params=0)
    room = 2 * size.table_bytes
    assert not size.is_sharded(room)
    assert replace(size, n_embedding_params=size.n_embedding_params + 1).is_sharded(room)


def test_a_small_table_is_divided_where_all_does_not_fit(data):
    size = rank_config(data, "plain").held_size(data.schema)
    room = size.bytes_on(1)
    assert not size.is_sharded(room)
    assert size.is_sharded(room - 1)
