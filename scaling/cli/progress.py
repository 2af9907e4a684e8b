"""Progress on stderr: bars drawn by rich on a terminal, else a line every ten seconds."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from scaling.cli.output import format_about, format_duration, is_live

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from sweeps.status import SweepProgress

__all__ = ["stopped_cleanly", "sweep_progress", "waiting_line", "work_progress"]


logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FRAMES = 0.5
_BAR_WIDTH = 16  # characters


@contextmanager
def work_progress(what: str) -> Iterator[Callable[[float, str, float], None]]:
    """Yield `report(share done, step, seconds left)`, which shows the progress of `what`.

    Seconds left are nan while they are unknown.
    """
    if is_live():
        with _bars(transient=True) as bars:
            task = bars.add_task(what, total=1.0, text="")

            def draw(done: float, step: str, left: float) -> None:
                bars.update(task, completed=done, text=f"{_eta(left)} {step}", refresh=True)

            yield draw
    else:
        last = time.monotonic()

        def report(done: float, step: str, left: float) -> None:
            nonlocal last
            if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                logger.info("%s: %.0f%% done, %s, %s", what, 100 * done, step, _eta(left))

        yield report


@contextmanager
def sweep_progress(
    look: Callable[[], SweepProgress], seconds_left: Callable[[SweepProgress, float], float]
) -> Iterator[Callable[[], None]]:
    """Yield a function to call often; now and then it shows what `look` finds. The last state stays visible.

    `seconds_left` gets what was found and the seconds since the beginning.
    """
    begin = time.monotonic()

    def look_now() -> tuple[SweepProgress, float]:
        state, elapsed = look(), time.monotonic() - begin
        return state, seconds_left(state, elapsed)

    if is_live():
        with _bars(transient=False) as bars:
            drawing = _SweepBars(bars)
            yield _now_and_then(_SECONDS_BETWEEN_FRAMES, lambda: drawing.draw(*look_now()))
            drawing.draw(*look_now())
    else:

        def line() -> None:
            state, left = look_now()
            elapsed = format_duration(time.monotonic() - begin)
            logger.info("[%s%s] %s", elapsed, _left_text(left), state.line())

        yield _now_and_then(_SECONDS_BETWEEN_LINES, line)
        line()


@contextmanager
def waiting_line() -> Iterator[Callable[[str, float], None]]:
    """Yield `show(text, seconds)`: a line that is redrawn on a terminal, elsewhere a line for each new text."""
    if is_live():
        from rich.console import Console
        from rich.text import Text

        with Console(stderr=True).status("") as line:
            yield lambda text, seconds: line.update(Text(f"[{format_duration(seconds)}] {text}"))
    else:
        last = ""

        def show(text: str, seconds: float) -> None:
            nonlocal last
            if text != last:
                logger.info("[%s] %s", format_duration(seconds), text)
            last = text

        yield show


class _SweepBars:
    """One bar for the study, and below it one for each running cell."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._study = bars.add_task("study", total=None, text="")
        self._cells: dict[str, TaskID] = {}

    def draw(self, state: SweepProgress, seconds_left: float) -> None:
        """Redraw the bars."""
        text = state.counts() + _left_text(seconds_left)
        self._bars.update(self._study, completed=state.n_done, total=state.n_cells, text=text)
        running = {cell.signature: cell for cell in state.running}
        for signature in self._cells.keys() - running.keys():
            self._bars.remove_task(self._cells.pop(signature))
        for signature, cell in running.items():
            if signature not in self._cells:
                self._cells[signature] = self._bars.add_task(cell.label, text="")
            self._bars.update(
                self._cells[signature],
                completed=cell.step,
                total=cell.n_steps or None,
                text=cell.speed(),
            )
        self._bars.refresh()


def _bars(*, transient: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column()),  # may wrap at spaces
        BarColumn(_BAR_WIDTH),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}", markup=False, table_column=Column()),
        console=Console(stderr=True),
        auto_refresh=False,  # no thread beside the training
        transient=transient,
    )


def _now_and_then(seconds: float, action: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls `action` at most once in so many seconds, and not at once."""
    following = time.monotonic() + seconds

    def call() -> None:
        nonlocal following
        if (now := time.monotonic()) >= following:
            following = now + seconds
            action()

    return call


def _left_text(seconds: float) -> str:
    """Return e.g. `, about 12:00 left`; empty if nothing is left."""
    return f", {format_about(seconds)} left" if seconds > 0 else ""


def _eta(seconds: float) -> str:
    return f"eta {seconds // 60:02.0f}:{seconds % 60:02.0f}" if seconds == seconds else "eta --:--"


@contextmanager
def stopped_cleanly() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that the work cleans up."""

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
