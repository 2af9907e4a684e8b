"""`open_unchanged`: a job trains on the bytes that the fingerprint is of, and reads them once on a node."""

import json
import os
import shutil

import numpy as np
import pytest

from scaling.errors import UserError
from scaling.store import open_store, open_unchanged, opening


@pytest.fixture
def store(tiny_store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shutil.copytree(tiny_store.path, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def reads(monkeypatch):
    """The arrays whose bytes were read."""
    names, digest = [], opening.content_digest

    def counted(array):
        names.append(array.shape)
        return digest(array)

    monkeypatch.setattr(opening, "content_digest", counted)
    return names


def flip_a_label(store):
    file = store / "impressions" / "label.npy"
    before = file.stat()
    labels = np.load(file, mmap_mode="r+")
    labels[0] ^= 1
    labels.flush()
    del labels
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_it_is_the_store(store):
    assert open_unchanged(store).fingerprint == open_store(store).fingerprint


def test_a_second_look_reads_no_array(store, reads):
    open_unchanged(store)
    n_first = len(reads)
    open_unchanged(store)
    assert (n_first > 5, len(reads)) == (True, n_first)


def test_the_check_of_the_driver_counts(store, reads):
    open_store(store, verify=True)
    open_unchanged(store)
    assert reads == []


def test_a_label_that_is_flipped_while_the_driver_checks_is_found(store, monkeypatch):
    find = opening.find_breaches

    def find_then_flip(*arguments):
        yield from find(*arguments)
        flip_a_label(store)

    monkeypatch.setattr(opening, "find_breaches", find_then_flip)
    open_store(store, verify=True)
    with pytest.raises(UserError, match="contents differ from the sha256"):
        open_unchanged(store)


def test_a_label_that_was_flipped_after_the_check_is_found(store):
    """Even if the file has the old time again."""
    open_unchanged(store)
    flip_a_label(store)
    with pytest.raises(UserError, match=r"label\.npy: contents differ from the sha256"):
        open_unchanged(store)


def test_digests_that_were_changed_as_well_do_not_fit_the_fingerprint(store):
    flip_a_label(store)
    file = store / "dataset.json"
    new = opening.content_digest(np.load(store / "impressions" / "label.npy"))
    document = json.loads(file.read_text())
    document["arrays"]["impressions/label"]["sha256"] = new
    file.write_text(json.dumps(document))
    with pytest.raises(UserError, match="fingerprint does not match"):
        open_unchanged(store)


def test_a_note_in_a_folder_that_others_may_write_to_is_not_believed(store, reads, tmp_path):
    open_unchanged(store)
    n_first = len(reads)
    (folder,) = tmp_path.glob("ctr-scaling-*")
    folder.chmod(0o777)
    open_unchanged(store)
    assert len(reads) == 2 * n_first
