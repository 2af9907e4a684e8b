"""`python -m scaling` is the console script `scaling`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # `python -m` puts the working directory first, where a stray models.py would hide the package.
    if Path(sys.path[0]).resolve() == Path.cwd() != Path(__file__).resolve().parents[1]:
        del sys.path[0]

    from scaling.cli import main

    main()
