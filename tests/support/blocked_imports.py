"""Runs a program in which packages cannot be imported, as if they were not installed."""

import subprocess
import sys

# A finder in front of all others that makes packages impossible to import.
BLOCK = """\
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
"""


def run_without(blocked, program, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", f"BLOCKED = {blocked!r}\n{BLOCK}{program}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
