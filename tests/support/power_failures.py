"""What is on a disk if the power fails after any operation of a writer: unsynced bytes are lost (`forgetful_disk.c`)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_DRIVER = """
import ctypes, itertools, os, sys
from pathlib import Path

disk = ctypes.CDLL(os.environ["LD_PRELOAD"])
{code}
for n in itertools.count():
    folder = Path(sys.argv[1]) / f"{{n:03}}"
    folder.mkdir()
    prepare(folder)
    child = os.fork()
    if not child:
        try:
            disk.fail_after(n)
            write(folder)
            disk.fail_after(-1)
            os._exit(0)
        except BaseException:
            disk.fail_after(-1)
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 137:
        sys.exit(code)
"""


def folders_after_power_failures(code: str, tmp_path: Path) -> list[Path]:
    """Return a folder for each operation of a writer, as it is if the power fails right after that operation.

    `code` defines `prepare(folder)`, what is on the disk already, and `write(folder)`. The last folder is that of a writer
    that came to its end.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler on Linux")
    library, states = tmp_path / "forgetful_disk.so", tmp_path / "states"
    source = Path(__file__).with_name("forgetful_disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    states.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER.format(code=code), str(states)],
        cwd=ROOT, env=os.environ | {"LD_PRELOAD": str(library)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return sorted(states.iterdir())
