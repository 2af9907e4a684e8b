"""Whenever the power fails while a store is written: it is not there, or all of it is."""

import numpy as np
from power_failures import folders_after_power_failures

NAMES = ("first", "second")
STORE = """
import numpy as np
from scaling.atomic_files import atomic_folder
from scaling.store import ArraySpec, StoreWriter

TABLE = {name: ArraySpec(np.dtype(np.int64), 3) for name in ("first", "second")}

def prepare(folder):
    pass

def write(folder):
    with atomic_folder(folder / "store") as temporary:
        with StoreWriter(temporary, TABLE) as writer:
            for name in TABLE:
                writer.append(name, np.arange(3))
"""


def test_a_store_is_not_there_or_whole(tmp_path):
    folders = [f / "store" for f in folders_after_power_failures(STORE, tmp_path)]
    found = [[np.load(f / f"{name}.npy") for name in NAMES] for f in folders if f.exists()]
    assert 0 < len(found) < len(folders)
    assert all(array.tolist() == [0, 1, 2] for arrays in found for array in arrays)
