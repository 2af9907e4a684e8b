"""A distilled run: gradients of the teacher, inputs of each model, and the same result wherever it was stopped."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from slow_cases import fast_only
from small_runs import numbers, small_config
from steps import step_ends

import scaling.training.run_on_disk
from analysis.table import runs_table, split_variants
from models.accounting import model_size
from models.distillation_loss import distillation_loss, latest_behaviours
from models.grades import GRADES, Grade
from models.model_options import SuanOptions
from scaling.batches import Epoch, find_groups
from scaling.batches.gather import gather_batch
from scaling.batches.packing import group_requests, iterate_packed
from scaling.errors import UserError
from scaling.records import RunStore
from scaling.study import Distillation, RunOptions
from scaling.training import PreemptedError, Training, train_run
from scaling.training.saved_model import load_model

LIGHT = SuanOptions(kind="lightsuan", window=4, dilation=4)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def make_config(store, **changes):
    light = {"grade_name": "LightSUAN-1", "model": LIGHT, "data_order": "shared"}
    return small_config(store, **(light | changes))


def teacher(name="SUAN-2", **changes):
    own = Distillation(name, GRADES[name], SuanOptions(), 0.007, 1.0, 2.0)
    return replace(own, **changes)


def trained(config, store, folders=()):
    training = Training(config, store, teachers=folders)
    training.advance(Epoch(config, store, find_groups(config, store)), lambda: None)
    return training


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_term_is_the_papers():
    """By hand: t^2 lambda times the cross-entropy of the softened predictions."""
    student, taught = torch.tensor([0.3, -2.0]), torch.tensor([1.0, 0.5])
    p, q = (1 / (1 + np.exp(-z.numpy().astype(float) / 4)) for z in (taught, student))
    expected = 0.5 * 16 * -(p * np.log(q) + (1 - p) * np.log(1 - q)).sum()
    ours = distillation_loss(student, taught, weight=0.5, temperature=4.0)
    assert ours.item() == pytest.approx(expected, rel=1e-6)


def test_no_gradient_of_the_term_reaches_the_teacher():
    student, taught = (torch.randn(8, requires_grad=True) for _ in range(2))
    distillation_loss(student, taught, weight=1.0, temperature=1.0).backward()
    assert taught.grad is None
    assert student.grad.abs().min() > 0


def test_the_students_gradient_keeps_its_size_as_the_temperature_grows():
    taught = torch.tensor([1.0])
    gradients = []
    for temperature in (50.0, 100.0):
        student = torch.tensor([-1.0], requires_grad=True)
        distillation_loss(student, taught, weight=1.0, temperature=temperature).backward()
        gradients.append(student.grad.item())
    assert gradients[0] == pytest.approx(-0.5, rel=1e-3)  # (z_s - z_t) / 4 in the limit
    assert gradients[1] == pytest.approx(gradients[0], rel=1e-3)


@pytest.mark.parametrize("max_len", [1, 8, 16, 50])
def test_a_cut_batch_is_the_one_gathered_for_the_shorter_history(tiny_store, max_len):
    rows = np.arange(0, 600, 7)
    cut = latest_behaviours(gather_batch(tiny_store, rows, 32), max_len)
    alone = gather_batch(tiny_store, rows, min(max_len, 32))
    for field in fields(alone):
        one, other = getattr(cut, field.name), getattr(alone, field.name)
        assert (one is None and other is None) or torch.equal(one, other), field.name


def test_a_cut_batch_of_requests_is_the_one_gathered_for_the_shorter_history(tiny_store):
    def batches(max_len):
        groups = group_requests(tiny_store, max_len)
        return next(
            iterate_packed(tiny_store, groups, step_ends(320, 160), 1, tokens_per_part=10**9)
        )

    for longer, alone in zip(batches(32), batches(8), strict=True):
        cut = latest_behaviours(longer, 8)
        order = [
            torch.argsort(b.times[:, -1] * 1000 + b.profile[:, 0], stable=True)
            for b in (cut, alone)
        ]
        for name in ("behaviours", "times", "hours", "lengths", "candidate", "label"):
            one, other = (getattr(b, name)[o] for b, o in zip((cut, alone), order, strict=True))
            assert torch.equal(one, other), name


def test_a_stretch_cannot_be_cut(tiny_store):
    batch = gather_batch(tiny_store, np.arange(500, 510), 32)
    with pytest.raises(ValueError, match="stretch"):
        latest_behaviours(replace(batch, ends=batch.lengths[:, None]), 2)


@pytest.mark.parametrize("packing", ["none", "request"])
def test_a_cold_teacher_ends_bit_for_bit_as_if_trained_alone(tiny_store, packing):
    """Whatever it teaches: neither the student nor the distillation term affects it."""
    config = make_config(tiny_store, packing=packing, distill=teacher(weight=7.0))
    together = trained(config, tiny_store)
    alone = trained(config.teacher_alone, tiny_store)
    assert torch.equal(weights(together.teacher.model), weights(alone.model))


def test_a_weightless_teacher_leaves_the_student_as_it_would_be_alone(tiny_store):
    """Except for the order of sums: batches are split into parts by the longer history."""
    config = make_config(tiny_store, distill=teacher(weight=0.0))
    together, alone = trained(config, tiny_store), trained(config.student_alone, tiny_store)
    torch.testing.assert_close(weights(together.model), weights(alone.model), rtol=1e-3, atol=1e-4)
    taught = trained(make_config(tiny_store, distill=teacher()), tiny_store)
    assert not torch.allclose(weights(taught.model), weights(alone.model), rtol=1e-3, atol=1e-3)


def test_the_two_share_one_table(tiny_store):
    own = teacher(teacher=Grade(2, 1, 3, 40), share_embeddings=True)
    training = trained(make_config(tiny_store, distill=own), tiny_store)
    assert training.teacher.model.embeddings is training.model.embeddings
    alone = trained(make_config(tiny_store), tiny_store)
    assert not torch.equal(alone.model.embeddings.weight, training.model.embeddings.weight)


@pytest.fixture(scope="module")
def kept(tiny_store, tmp_path_factory):
    """The folder of runs with a finished SUAN-2, and its configuration."""
    torch.set_num_threads(1)
    runs = RunStore(tmp_path_factory.mktemp("teachers"))
    config = make_config(tiny_store, distill=teacher()).teacher_alone
    config = replace(config, n_samples=640)
    train_run(config, tiny_store, runs)
    return runs.root, config


def warm(config, **changes):
    return teacher(teacher_init=config.signature, **changes)


@pytest.mark.slow
def test_a_frozen_teacher_does_not_change(tiny_store, kept):
    root, before = kept
    frozen = make_config(tiny_store, distill=warm(before, learning_rate=None))
    training = trained(frozen, tiny_store, [root])
    again = trained(before, tiny_store)
    assert torch.equal(weights(training.teacher.model), weights(again.model))
    going_on = trained(make_config(tiny_store, distill=warm(before)), tiny_store, [root])
    assert not torch.equal(weights(going_on.teacher.model), weights(again.model))


def test_a_warm_teacher_serves_data_without_a_profile(tiny_store, tmp_path):
    bare = replace(tiny_store, schema=replace(tiny_store.schema, profile=()))
    before = make_config(bare, distill=teacher()).teacher_alone
    train_run(before, bare, RunStore(tmp_path))
    training = Training(make_config(bare, distill=warm(before)), bare, teachers=[tmp_path])
    assert torch.equal(
        weights(training.teacher.model), weights(load_model(tmp_path / before.signature))
    )


@pytest.mark.parametrize(
    "way", fast_only(["warm"], ["cold", "shared", "warm", "frozen", "request"])
)
def test_a_distilled_run_that_was_stopped_ends_with_the_same_record(
    tiny_store, kept, tmp_path, monkeypatch, way
):
    monkeypatch.setattr(scaling.training.run_on_disk, "_CHECKPOINT_SHARE", 1e9)
    root, before = kept
    dropout = SuanOptions(dropout=0.1)
    own = {
        "cold": teacher(model=dropout),
        "request": teacher(model=dropout),
        "shared": teacher(teacher=Grade(2, 1, 3, 40), share_embeddings=True),
        "warm": warm(before),
        "frozen": warm(before, learning_rate=None),
    }[way]
    config = make_config(tiny_store, distill=own, packing="request" if way == "request" else "none")
    undisturbed = train_run(config, tiny_store, RunStore(tmp_path / "one"), teachers=[root])
    runs, asked = RunStore(tmp_path / "two"), iter([None] * 12 + ["signal 12"])
    often = RunOptions(checkpoint_seconds=1e-9)
    with pytest.raises(PreemptedError):
        train_run(
            config, tiny_store, runs, stop=lambda: next(asked), options=often, teachers=[root]
        )
    record = train_run(config, tiny_store, runs, teachers=[root])
    assert [a["first_step"] for a in record.provenance["attempts"]][1] > 0
    assert numbers(record) == numbers(undisturbed)
    assert runs.read(config.signature) == record


def test_a_record_describes_the_teacher_and_counts_both(tiny_store, kept, tmp_path):
    root, before = kept
    config = make_config(tiny_store, distill=warm(before, learning_rate=None))
    record = train_run(config, tiny_store, RunStore(tmp_path), teachers=[root])
    size = model_size(GRADES["SUAN-2"], SuanOptions(), tiny_store.schema)
    assert record.teacher.n_params == size.n_params
    assert record.flops == 3 * record.flops_per_sample * 320 + size.flops_per_sample * 320
    assert record.teacher.metrics == train_run(before, tiny_store, RunStore(root)).metrics
    # the shared order is nested: the student's 320 are the first of the teacher's 640
    assert (record.teacher.n_samples, record.teacher.n_new_samples) == (640, 320)
    joint = make_config(tiny_store, distill=teacher())
    record = train_run(joint, tiny_store, RunStore(tmp_path))
    assert record.flops == 3 * 320 * (record.flops_per_sample + size.flops_per_sample)
    assert record.teacher.n_samples == 0


def test_a_warm_teacher_needs_a_saved_model_of_the_same_features(tiny_store, kept, tmp_path):
    root, before = kept
    config = make_config(tiny_store, distill=warm(before))
    with pytest.raises(UserError, match=f"no saved model of run {before.signature} in"):
        train_run(config, tiny_store, RunStore(tmp_path), teachers=[tmp_path])
    schema = replace(tiny_store.schema, numeric=("price",))
    with pytest.raises(UserError, match="trained on features that differ"):
        Training(config, replace(tiny_store, schema=schema), teachers=[root])
    other = replace(config, distill=warm(before, model=SuanOptions(norm="layer")))
    with pytest.raises(UserError, match="its model is not SUAN-2"):
        Training(other, tiny_store, teachers=[root])


def test_the_models_start_as_they_would_alone(tiny_store):
    config = make_config(tiny_store, distill=teacher())
    training = Training(config, tiny_store)
    for model, alone in (
        (training.model, config.student_alone),
        (training.teacher.model, config.teacher_alone),
    ):
        fresh = Training(alone, tiny_store).model
        assert torch.equal(weights(model), weights(fresh))


@pytest.mark.slow
def test_the_table_has_the_teachers_columns_and_keeps_teachers_apart(tiny_store, kept, tmp_path):
    root, before = kept
    runs = RunStore(tmp_path)
    for distill in (None, teacher(), teacher("SUAN-3"), warm(before, learning_rate=None)):
        train_run(make_config(tiny_store, distill=distill), tiny_store, runs, teachers=[root])
    table = runs_table(runs.root)
    rows = table[["distill", "teacher_grade", "teacher_data"]].itertuples(index=False, name=None)
    assert sorted(rows) == [
        ("cold", "SUAN-2", "none"),
        ("cold", "SUAN-3", "none"),
        ("frozen", "SUAN-2", "640"),
        ("none", "none", "none"),
    ]
    taught = table[table["distill"] != "none"]
    assert taught["teacher_auc"].notna().all()
    assert table.loc[table["distill"] == "none", "teacher_n_params"].isna().all()
    assert len(split_variants(table)) == 4
    # a law in the teacher's size takes the two cold ones together, and nothing else with them
    parts = split_variants(table, "teacher_n_params").values()
    assert sorted(len(part) for part in parts) == [1, 1, 2]


def test_a_frozen_teacher_has_no_gradients(tiny_store, kept):
    root, before = kept
    config = make_config(tiny_store, distill=warm(before, learning_rate=None))
    training = trained(config, tiny_store, [root])
    assert training.teacher.learner is None
    assert all(p.grad is None and not p.requires_grad for p in training.teacher.model.parameters())
