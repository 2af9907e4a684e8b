"""record.json: a digest of its own content and of the run's other files, strict types, sizes that follow."""

import hashlib
import os
import re
from dataclasses import replace

import pytest
from recorded_runs import config_of, edit_record, write_run

from scaling.errors import UserError
from scaling.records import RunStore, file_digest, read_curve, read_record
from scaling.records.digests import record_text


@pytest.fixture
def runs(tmp_path):
    return RunStore(tmp_path / "t")


@pytest.fixture
def path(runs):
    return runs.folder(write_run(runs, config_of()).signature) / "record.json"


def fault(path):
    with pytest.raises(UserError) as error:
        read_record(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


def test_a_record_is_read_as_it_was_written(runs):
    record = write_run(runs, config_of())
    assert runs.read(record.signature) == record


def test_a_changed_digit_is_told(path):
    text = path.read_text()
    path.write_text(
        re.sub(r'"logloss": 0\.(\d)', lambda m: f'"logloss": 0.{(int(m[1]) + 1) % 10}', text)
    )
    assert path.read_text() != text
    assert fault(path).startswith("its digest does not match: the file was damaged or changed")


def test_every_changed_byte_is_told(path):
    """One byte of each of 97 equal parts; a digest in another place would be no digest."""
    intact = path.read_bytes()
    for at in range(0, len(intact), len(intact) // 97):
        path.write_bytes(intact[:at] + bytes([intact[at] ^ 1]) + intact[at + 1 :])
        with pytest.raises(UserError):
            read_record(path)


def test_a_record_whose_digest_was_removed_is_told(path):
    text = path.read_text()
    path.write_text(re.sub(r',\n  "digest": "\w+"', "", text))
    assert fault(path).startswith("its digest is missing")


def test_a_record_of_an_earlier_version_is_read(path):
    record = read_record(path)
    edit_record(path, lambda document: None)
    assert read_record(path) == replace(record, files={})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n_params": -2073}, "n_params: input should be greater than or equal to 0, got -2073"),
        ({"n_params": 10**400}, "n_params has over 308 digits"),
        (
            {"metrics": {"logloss": float("nan")}},
            "metrics.logloss is NaN, expected a finite number",
        ),
        ({"train_seconds": float("inf")}, "train_seconds is Infinity"),
        (
            {"metrics": {"logloss": 0.1438, "base_rate": 0.35, "normalized_entropy": 0.83992857}},
            "metrics.logloss is 0.1438, but its normalized_entropy and base_rate are of 0.543809",
        ),
        ({"flops": 5}, "flops is 5, but 4,096 samples of this record's models take"),
        ({"provenance": {"truth": {"bayes_logloss": "x"}}}, "provenance: truth.bayes_logloss: "),
    ],
)
def test_an_impossible_value_is_refused(path, change, says):
    edit_record(path, lambda document: document.update(change))
    assert fault(path).startswith(says)


def test_deep_nesting_is_refused(path):
    path.write_text("[" * 100_000 + "]" * 100_000)
    assert fault(path).startswith("nested over 64 levels deep")


def test_damaged_records_are_left_out_and_named(runs, path):
    intact = write_run(runs, config_of(seed=1))
    path.write_text(path.read_text().replace("cpu", "gpu"))
    assert runs.read_all() == [intact]
    (text,) = (one for one in runs.read_each() if isinstance(one, str))
    assert str(path) in text


def test_a_curve_that_was_changed_is_told(runs, path):
    curve = path.with_name("metrics.jsonl")
    digest = file_digest(curve)
    curve.write_text(curve.read_text().replace("1244.5", "1244.6"))
    with pytest.raises(UserError, match="its digest differs"):
        read_curve(path.parent, digest)


def test_the_digest_is_of_the_text_before_it(runs):
    """Recomputed with other tools: sha256 of all bytes before the line of the digest."""
    text = record_text(write_run(runs, config_of()))
    body, _, rest = text.rpartition(',\n  "digest": "')
    assert rest.partition('"')[0] == hashlib.sha256(body.encode()).hexdigest()


def test_a_pipe_in_the_place_of_a_record_is_told_without_waiting(path):
    path.unlink()
    os.mkfifo(path)
    assert fault(path).startswith("cannot be read: not a regular file; remove ")


def test_a_record_that_may_not_be_read_is_not_to_be_removed(path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("scaling.records.digests.open_regular", refuse)
    assert fault(path) == "cannot be read: Permission denied"


def test_a_link_to_itself_is_a_complete_run_that_cannot_be_read(runs, path):
    path.unlink()
    path.symlink_to(path.name)
    assert runs.has(path.parent.name)
    (told,) = runs.read_each()
    assert told.startswith(f"{path}: cannot be read: Too many levels of symbolic links")
