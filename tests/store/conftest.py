"""A store of a random log, which a test may damage."""

import pytest
from store_logs import make_log, write_log


@pytest.fixture
def store(tmp_path):
    return write_log(tmp_path / "store", make_log())
