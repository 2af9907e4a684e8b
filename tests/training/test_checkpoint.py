import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scaling.errors import StorageError
from scaling.training.checkpoint import (
    Checkpoint,
    flatten,
    read_checkpoints,
    save_checkpoint,
    unflatten,
)


def make(step, label="shared", seed=0):
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "a": torch.randn(7, 3, generator=generator),
        "b": torch.arange(5),
        "c": torch.tensor([True, False]),
        "empty": torch.zeros(0, 4),
    }
    return Checkpoint(label, step, tensors, {"note": "hello", "n": step})


def same(one, other):
    return (
        (one.label, one.step, one.facts) == (other.label, other.step, other.facts)
        and one.tensors.keys() == other.tensors.keys()
        and all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    )


def test_a_checkpoint_survives_the_disk(tmp_path):
    save_checkpoint(tmp_path, make(3))
    (read,) = read_checkpoints(tmp_path, "shared")
    assert same(read, make(3))


def test_a_checkpoint_is_synced_then_named_then_its_folder_is_synced(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace

    def synced(descriptor):
        calls.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def named(*names):
        calls.append("named")
        replace(*names)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", named)
    path = save_checkpoint(tmp_path, make(3))
    assert calls == [path.stat().st_ino, "named", tmp_path.stat().st_ino]


def test_the_two_latest_are_kept(tmp_path):
    for step in (9, 10, 200, 1000):
        save_checkpoint(tmp_path, make(step))
    assert [c.step for c in read_checkpoints(tmp_path, "shared")] == [1000, 200]
    assert len(list(tmp_path.iterdir())) == 2


def test_two_whole_ones_are_kept_beside_a_damaged_later_one(tmp_path):
    path = save_checkpoint(tmp_path, make(9))
    path.write_bytes(path.read_bytes()[:-1])
    for step in (5, 6, 7):
        save_checkpoint(tmp_path, make(step))
    assert [c.step for c in read_checkpoints(tmp_path, "shared")] == [7, 6]


def test_labels_do_not_push_each_other_out(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, make(step))
        save_checkpoint(tmp_path, make(step + 10, "n64"))
    assert [c.step for c in read_checkpoints(tmp_path, "shared")] == [3, 2]
    assert [c.step for c in read_checkpoints(tmp_path, "n64")] == [13, 12]


@given(place=st.floats(0, 1, exclude_max=True), damage=st.sampled_from(["cut", "flip", "grow"]))
def test_a_damaged_checkpoint_is_not_used_and_the_one_before_is(tmp_path_factory, place, damage):
    folder = tmp_path_factory.mktemp("checkpoints")
    save_checkpoint(folder, make(1))
    path = save_checkpoint(folder, make(2))
    content = bytearray(path.read_bytes())
    index = int(place * len(content))
    if damage == "flip":
        content[index] ^= 1 << (index % 8)
    path.write_bytes(content[:index] if damage == "cut" else content + b"x" * (damage == "grow"))
    assert [c.step for c in read_checkpoints(folder, "shared")] == [1]


def test_no_checkpoint_at_all_is_nothing_to_read(tmp_path):
    assert not list(read_checkpoints(tmp_path / "missing", "shared"))


def test_a_process_killed_while_it_wrote_leaves_the_last_one_in_use(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, make(1))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, make(2))
    assert [c.step for c in read_checkpoints(tmp_path, "shared")] == [1]


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "checkpoints", make(1))


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
leaves |= st.integers(0, 5).map(lambda n: torch.arange(n))
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.integers(0, 9) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(tree=trees)
def test_a_tree_is_put_together_again(tree):
    tensors = {}
    rest = flatten(tree, "tree", tensors)
    assert repr(unflatten(rest, tensors)) == repr(tree)


def test_what_is_neither_a_tensor_nor_json_is_refused():
    with pytest.raises(TypeError, match=r"tree\.x: a set is neither"):
        flatten({"x": {1, 2}}, "tree", {})


def test_an_optimiser_is_put_together_again():
    weight = torch.nn.Parameter(torch.ones(3))
    adam = torch.optim.AdamW([weight], fused=True)
    weight.sum().backward()
    adam.step()
    tensors = {}
    rest = flatten(adam.state_dict(), "adam", tensors)
    other = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))], fused=True)
    other.load_state_dict(unflatten(rest, tensors))
    assert repr(other.state_dict()["state"]) == repr(adam.state_dict()["state"])
