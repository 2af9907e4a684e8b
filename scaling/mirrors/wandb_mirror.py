"""A mirror of offline runs of W&B, which `wandb sync` uploads; it takes finished runs only.

An offline run cannot be added to: W&B would make a second one of the same name.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.errors import UserError
from scaling.mirrors.run_facts import RunFacts
from scaling.mirrors.trackers import Mirrored
from scaling.records import CurvePoint

__all__ = ["connect"]


_OF_CURVE = ("loss", "learning_rate", "samples_per_second")


def connect(place: str) -> "WandbMirror":
    """Open the folder `place`; runs are in its folder `wandb`, where W&B looks for them.

    Raises:
        ModuleNotFoundError: W&B is not installed.
    """
    return WandbMirror(Path(place))


class WandbMirror:
    """Settings as the config, the curve as the history, the final numbers as the summary."""

    takes_unfinished = False

    def __init__(self, root: Path) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read on import
        import wandb

        self._wandb: Any = wandb
        self._folder = root.resolve() / "wandb"
        # nothing of this machine or its git checkout, and no line on the terminal
        self._options = wandb.Settings(
            mode="offline",
            console="off",
            silent=True,
            disable_git=True,
            save_code=False,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
        )

    def held(self, run: RunFacts) -> Mirrored | None:
        """Return what is there of a run; None if nothing is."""
        found = any(self._folder.glob(f"offline-run-*-{run.signature}/run-{run.signature}.wandb"))
        return Mirrored(is_finished=True) if found else None

    def add(self, run: RunFacts, points: Sequence[CurvePoint]) -> None:
        """Write a run beside the others; it appears whole.

        Raises:
            UserError: W&B fails, or the folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
        except OSError as error:
            raise UserError(f"{self._folder}: cannot be written: {error.strerror}") from error
        try:
            self._write(run, points, temporary)
            for folder in temporary.glob("wandb/offline-run-*"):
                folder.rename(self._folder / folder.name)
        except (self._wandb.Error, OSError) as error:
            raise UserError(f"{self._folder}: W&B cannot write the run: {error}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def close(self) -> None:
        """End the process in which W&B writes."""
        self._wandb.teardown()

    def _write(self, run: RunFacts, points: Sequence[CurvePoint], folder: Path) -> None:
        config = run.config
        writing = self._wandb.init(
            project=run.study,
            id=run.signature,
            name=run.label,
            group=config.grade_name,
            tags=[config.grade_name, f"D={config.n_samples}", f"seed={config.seed}"],
            config={**run.settings, "signature": run.signature},
            dir=str(folder),
            settings=self._options,
            reinit="create_new",
        )
        for point in points:
            values = {f"train/{name}": getattr(point, name) for name in _OF_CURVE}
            writing.log({**values, "_timestamp": run.seconds_at(point)}, step=point.step)
        writing.summary.update(run.results)
        writing.finish()
