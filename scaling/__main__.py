"""`python -m scaling` is the console script `scaling`."""

import sys
from importlib.util import find_spec
from pathlib import Path

_HOME = Path(__file__).resolve().parent.parent


def _hidden_package() -> str | None:
    """Return a message if another file would be imported in place of a package beside this one, else None."""
    for name in ("models", "scaling", "sweeps", "analysis"):
        spec = find_spec(name)
        found = spec.origin or "a folder" if spec else "nothing"
        if Path(found).resolve() != _HOME / name / "__init__.py":
            return (
                f"{found} is found in place of {_HOME / name}; rename it, or remove its folder from "
                "PYTHONPATH"
            )
    return None


if __name__ == "__main__":
    # `python -m` puts the working directory first, where a stray models.py would hide the package.
    if Path(sys.path[0]).resolve() == Path.cwd() != _HOME:
        del sys.path[0]
    if (message := _hidden_package()) is not None:
        print(f"error: {message}", file=sys.stderr)  # noqa: T201
        sys.exit(2)

    from scaling.cli.app import main

    main()
