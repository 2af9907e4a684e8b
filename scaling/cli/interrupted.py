"""What is left after Ctrl-C, and whether the same command goes on from there."""

from collections.abc import Sequence

__all__ = ["after_interrupt"]


# Verbs that train: cells that are done stay done, the others have saved their states. What is mirrored stays so.
_GO_ON = ("run", "submit", "train", "pursue", "tune", "mirror")
_ANEW = "nothing was kept; the same command begins anew"


def after_interrupt(arguments: Sequence[str]) -> str:
    """Return the last line of an interrupted command.

    Args:
        arguments: of the command line.
    """
    words = [one for one in arguments if not one.startswith("-")]
    verb, rest = (words or [""])[0], words[1:2]
    what = ""
    if verb in _GO_ON:
        what = "the same command goes on from here"
    elif verb in ("status", "logs"):
        what = "the cells go on, and the same command shows them again"
    elif verb == "retry":
        what = "`scaling submit` goes on with these cells"
    elif verb == "benchmark" or (verb, rest) == ("data", ["generate"]):
        what = _ANEW
    elif (verb, rest) == ("data", ["import"]):
        sharded = any(one.split("=")[0] == "--shards" for one in arguments)
        what = (
            "the same command goes on from here"
            if sharded
            else f"{_ANEW}, with --shards it goes on"
        )
    return f"interrupted; {what}" if what else "interrupted"
