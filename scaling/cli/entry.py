"""The entry of the command `scaling`: checks that no other file hides a package of ours, then runs it."""

import sys

from scaling.errors import UserError
from scaling.process import check_packages

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; `arguments` default to `sys.argv[1:]`."""
    try:
        check_packages()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    from scaling.cli.app import main as run  # after the check, since it imports those packages

    run(arguments)
