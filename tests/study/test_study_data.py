"""A study's data: generated if they are missing, refused if they were generated from other settings."""

import pytest

from scaling.errors import UserError
from scaling.study import data_facts, ensure_data, load_study


def test_data_generated_from_other_settings_are_refused(study_file):
    study = load_study(study_file, ["data.generate={n_train=500}"])
    with pytest.raises(UserError, match=r"remove the folder or give data\.path another one"):
        data_facts(study.data)


def test_missing_data_are_generated_once(study_file, tmp_path):
    study = load_study(
        study_file, [f'data.path="{tmp_path / "new"}"', "data.generate={n_train=50,n_test=20}"]
    )
    first = ensure_data(study.data)
    stamp = (tmp_path / "new" / "dataset.json").stat().st_mtime_ns
    assert ensure_data(study.data).fingerprint == first.fingerprint
    assert (tmp_path / "new" / "dataset.json").stat().st_mtime_ns == stamp
