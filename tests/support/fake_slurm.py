"""Fast substitutes for SLURM's client commands: they store a queue in a JSON file, and no job ever runs.

`install(folder)` writes the commands to a folder for the path. Their output is copied from a real SLURM, which
`tests/cluster/test_slurm.py` uses.
"""

import json
import os
import re
import sys
from pathlib import Path

NAMES = ("sbatch", "squeue", "sinfo", "scontrol", "scancel", "srun")
SINFO = "gpu*|gpu:2|8000|4|infinite\ncpu|(null)|4000|8|1:00:00\n"


def install(folder: Path, interpreter: str) -> None:
    """Write the commands to `folder`."""
    folder.mkdir()
    for name in NAMES:
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec {interpreter} -S -E {__file__} {name} "$@"\n')
        command.chmod(0o755)


def queue_file() -> Path:
    return Path(os.environ["FAKE_SLURM"])


def sbatch(script: str) -> None:
    text = Path(script).read_text()
    jobs = read()
    number = 1 + max((int(job["id"].partition("_")[0]) for job in jobs), default=0)
    array = re.search(r"--array=0-(\d+)%(\d+)", text)
    ids = [f"{number}_{i}" for i in range(int(array[1]) + 1)] if array else [f"{number}"]
    name = re.search(r"--job-name=(\S+)", text)
    jobs += [{"id": one, "name": name[1] if name else "", "script": script} for one in ids]
    write(jobs)
    say(f"Submitted batch job {number}\n")


def squeue(*options: str) -> None:
    (wanted,) = [o.partition("=")[2] for o in options if o.startswith("--name=")]
    for job in read():
        if job["name"] == wanted:
            say(f"{job['id']}|PENDING|Priority||{job['script']}\n")


def sinfo(*_: str) -> None:
    say(SINFO)


def scontrol(*words: str) -> None:
    if words[:2] == ("show", "config"):
        say("MaxArraySize            = 5\n")
    elif words[:2] == ("show", "node"):
        say(f"NodeName=n1 NodeHostName={os.environ.get('FAKE_HOST') or os.uname().nodename}\n")


def scancel(*ids: str) -> None:
    arrays = set(ids)
    write([j for j in read() if j["id"] not in arrays and j["id"].partition("_")[0] not in arrays])


def say(text: str) -> None:
    sys.stdout.write(text)


def read() -> list[dict[str, str]]:
    return json.loads(queue_file().read_text()) if queue_file().exists() else []


def write(jobs: list[dict[str, str]]) -> None:
    queue_file().write_text(json.dumps(jobs))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
