"""The message for a package that is not installed."""

from importlib.util import find_spec

from scaling.errors import UserError

__all__ = ["check_training_packages", "missing_package"]


_TRAINING = ("torch", "submitit", "safetensors")  # the extra `train` of pyproject.toml
# What every installation has, unless it was changed by hand.
_ALWAYS = (
    *("numpy", "scipy", "pandas", "matplotlib", "pydantic", "duckdb", "zstandard"),
    *("jinja2", "psutil", "rich", "tomlkit"),
)


def check_training_packages() -> None:
    """Check that the packages for training are installed, without importing them.

    Raises:
        UserError: a package is not installed.
    """
    for name in _TRAINING:
        if find_spec(name) is None:
            raise UserError(_message(name))


def missing_package(error: ModuleNotFoundError) -> str | None:
    """Return the message if the missing module belongs to a package that we need, else None."""
    name = (error.name or "").partition(".")[0]
    if name in _TRAINING:
        return _message(name)
    if name in _ALWAYS:
        return f'{name} is not installed; install it with: pip install "ctr-scaling"'
    return None


def _message(name: str) -> str:
    return (
        f"training needs {name}, which is not installed; install it with: "
        'pip install "ctr-scaling[train]"'
    )
