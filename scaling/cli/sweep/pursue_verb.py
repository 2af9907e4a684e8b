"""The verb `scaling pursue`: trains the cells that narrow the goal of a study most per cost, round by round."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.options import ForceResume, Overrides, Runs, Study
from scaling.cli.output import counted, print_parts
from scaling.cli.sweep.dispatching import Cluster, Jobs, OnCluster, Request, train_cells
from scaling.cli.sweep.plan_verbs import load_plan, load_study_and_store
from scaling.errors import SettingError, UserError

if TYPE_CHECKING:
    import pandas as pd

    from scaling.records import Lease, PursuitRound, RunStore
    from scaling.study import GoalConfig, StudyConfig
    from sweeps.dispatch import Prices
    from sweeps.planning import Plan, PlannedCell

__all__ = ["add_verbs"]


logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 10.0
_MOST_LABELS = 4

Once = Annotated[
    bool,
    typer.Option("--once", help="At most one round; with slurm, return once its jobs are queued."),
]


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("pursue")(pursue)


def pursue(
    study: Study,
    overrides: Overrides = None,
    runs: Runs = None,
    cluster: OnCluster = Cluster.LOCAL,
    jobs: Jobs = None,
    once: Once = False,
    force_resume: ForceResume = False,
    rising: Annotated[
        bool | None,
        typer.Option(
            "--rising/--falling",
            help="The metric's direction [default: goal.rising, or by its name].",
        ),
    ] = None,
) -> None:
    """Train the cells that narrow the study's [goal] most per cost, until it is reached or the budget is spent.

    Each round fits the finished runs, chooses cells of the grid, trains them and adds a line to
    RUNS/STUDY/pursuit.jsonl. A pursuit that was killed goes on when it is called again. Exits 1 if it ended
    without reaching the goal. See docs/runs.md.

    Example: scaling pursue study.toml --cluster slurm
    """
    if rising is not None:
        overrides = [*(overrides or ()), f"goal.rising={str(rising).lower()}"]
    config, store = load_study_and_store(study, overrides, runs)
    goal = _checked_goal(study, config)
    request = Request(
        study,
        [*(overrides or ()), *_more_seeds(config, goal)],
        runs,
        cluster,
        jobs,
        force_resume=force_resume,
    )
    made, store = load_plan(study, request.overrides, runs, make_data=True)
    _check_sizes(made)
    with _only_pursuit(store, config.run.stale_seconds) as lease:
        raise typer.Exit(_Pursuit(request, goal, store, lease).follow(once=once))


def _checked_goal(path: Study, study: StudyConfig) -> GoalConfig:
    """Return the goal of a study whose grid one law can describe.

    Raises:
        SettingError: there is no goal, the law has no such quantity, or the grid has several variants.
    """
    from analysis.budget import check_goal
    from scaling.study import NO_TEACHER

    try:
        if study.goal is None:
            raise SettingError(
                "goal",
                'missing; pursue needs e.g. [goal] quantity = "alpha", width = 0.1, core_hours = 2.0',
            )
        if study.grid.axes:
            axis = next(iter(study.grid.axes))
            raise SettingError(
                f"grid.{axis}", "a goal is that of one law; remove the axis from the pursued study"
            )
        if study.distill.teacher != NO_TEACHER:
            raise SettingError(
                "distill.teacher", "a study with a teacher cannot be pursued; use `scaling next`"
            )
        if len({study.is_light(name) for name in study.grid.grade}) > 1:
            raise SettingError("grid.grade", "a goal is that of one law; name SUANs or LightSUANs")
        check_goal(study.goal)
    except SettingError as error:
        raise UserError(f"{path}: {error}") from error
    return study.goal


def _more_seeds(study: StudyConfig, goal: GoalConfig) -> list[str]:
    """Return the override that gives each cell of the grid as many seeds as the goal allows."""
    if goal.n_seeds is None:
        return []
    own = study.grid.n_seeds
    if isinstance(own, int):
        return [f"grid.n_seeds={max(own, goal.n_seeds)}"]
    return [f"grid.n_seeds={[max(count, goal.n_seeds) for count in own]}"]


def _check_sizes(made: Plan) -> None:
    """Check that the grid has three sizes on each axis; fewer never identify a law.

    Raises:
        UserError: it has fewer.
    """
    for name, sizes in (
        ("grade", {cell.size.n_params for cell in made.cells}),
        ("n_samples", {cell.config.n_samples for cell in made.cells}),
    ):
        if len(sizes) < 3:
            raise UserError(
                f"grid.{name}: {counted(len(sizes), 'size')}, a pursuit needs 3 to identify the law"
            )


@contextmanager
def _only_pursuit(store: RunStore, stale_seconds: float) -> Iterator[Lease]:
    """Hold the right to pursue a study, which one living process can have at a time.

    Raises:
        UserError: another process has it, or the folder cannot be written.
    """
    from scaling.records import RunBusyError, claim, remove_work_files

    folder = store.folder("pursuit")
    try:
        lease = claim(folder, done=lambda: False, stale_seconds=stale_seconds)
    except RunBusyError as error:
        who = str(error).removeprefix(f"{folder}: ").removesuffix(" is training this run")
        raise UserError(
            f"{store.root}: {who} is pursuing this study; wait until it ends"
        ) from error
    assert lease is not None
    try:
        yield lease
    finally:
        lease.close()
        remove_work_files(folder)


@dataclass
class _Pursuit:
    """One call of the verb; everything that outlives it is in the runs and the log."""

    request: Request
    goal: GoalConfig
    store: RunStore
    lease: Lease

    def follow(self, *, once: bool) -> int:
        """Go on with the pursuit; return the exit code."""
        tried: int | None = None
        while True:
            made, rounds = self._plan()
            last = rounds[-1] if rounds else None
            cells = [c for c in made.cells if last and c.config.signature in last.cells]
            prices = _prices(made, self.goal, rounds, self.store)
            waiting = prices.affordable([cell for cell in cells if cell.goes_on])
            if last and waiting and tried != last.number:
                tried = last.number
                self._train(waiting)
                if once:
                    return 0
                continue
            if any(cell.standing in ("running", "queued") for cell in cells):
                if once:
                    logger.info(
                        "round %d is under way; call again when it has ended",
                        last.number if last else 0,
                    )
                    return 0
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                continue
            if last and cells and tried == last.number and not _any_done(cells):
                logger.error(
                    "round %d: none of its cells is done; `scaling status` says why", last.number
                )
                return 1
            table = self._table(made)
            n_left = len(prices.trainable())
            if last and last.kind == "end" and self._is_old(last, len(table), n_left):
                print(_round_text(last), flush=True)
                return 0 if last.is_reached else 1
            one = self._look(made, prices, table, rounds)
            if one.kind == "end":
                self._report(made)
                return 0 if one.is_reached else 1

    def _plan(self) -> tuple[Plan, list[PursuitRound]]:
        from analysis.budget import goal_text
        from scaling.records import PURSUIT_LOG, read_rounds

        made, _ = load_plan(self.request.study, self.request.overrides, self.request.runs)
        if made.silence:
            raise UserError(f"the state of the queue is unknown: {made.silence}; call again later")
        rounds = read_rounds(self.store.root)
        if not rounds:
            return made, rounds
        at, metric, before = _target(made, self.goal), _metric(made, self.goal), rounds[-1].metric
        # what is not known yet was not looked at
        known = metric or before
        differs = bool(before) and before != known
        if differs or rounds[-1].quantity != goal_text(self.goal, at, before):
            own = goal_text(self.goal, at, known if before else before)
            raise UserError(
                f"{self.store.root / PURSUIT_LOG}: pursues {rounds[-1].quantity}, not {own}; looks at another "
                "quantity would not be counted, so give the study another name, or remove this file"
            )
        return made, rounds

    def _train(self, cells: list[PlannedCell]) -> None:
        chosen = frozenset(cell.config.signature for cell in cells)
        train_cells(replace(self.request, signatures=chosen))

    def _table(self, made: Plan) -> pd.DataFrame:
        """The finished runs of the grid, one row per run."""
        import pandas as pd

        from analysis.table import runs_table

        if not made.with_standing("done"):
            return pd.DataFrame()
        table = runs_table(self.store.root)
        own = {cell.config.signature for cell in made.cells}
        return table[table["signature"].isin(own)].reset_index(drop=True)

    def _is_old(self, last: PursuitRound, n_runs: int, n_left: int) -> bool:
        """Whether nothing has changed since the pursuit ended."""
        before = (last.goal_width, last.budget, last.unit, last.n_runs)
        same = before == (self.goal.width, self.goal.budget, self.goal.unit, n_runs)
        return same and last.n_left in (None, n_left)

    def _look(
        self, made: Plan, prices: Prices, table: pd.DataFrame, rounds: list[PursuitRound]
    ) -> PursuitRound:
        """Decide on the next round, write it to the log and print it."""
        from analysis.budget import PursuitUnit, next_round
        from scaling.records import append_round

        units = [
            PursuitUnit(
                tuple(cell.config.signature for cell in unit),
                tuple(cell.config.label for cell in unit),
                tuple((float(c.size.n_params), float(c.config.n_samples)) for c in unit),
                prices.price(unit),
                prices.least_price(unit),
            )
            for unit in prices.trainable()
        ]
        one = next_round(
            self.goal, _target(made, self.goal), table, units, rounds, spent=prices.spent
        )
        self.lease.verify()
        append_round(self.store.root, rounds, one)
        print(_round_text(one), flush=True)
        return one

    def _report(self, made: Plan) -> None:
        import pandas as pd

        from analysis.report import analyse
        from scaling.records import user_command

        planned = pd.DataFrame(made.rows())
        planned = planned[planned["state"] == "done"]
        if len(planned):
            title = made.study.study.description or made.study.name
            found = analyse(
                self.store.root, title=title, planned=planned, commands=[user_command()]
            )
            print_parts([found.text])


def _prices(made: Plan, goal: GoalConfig, rounds: list[PursuitRound], store: RunStore) -> Prices:
    from sweeps.dispatch import Prices

    return Prices.learned(made, goal, rounds, store)


def _metric(made: Plan, goal: GoalConfig) -> str:
    """The metric that is fitted; empty as long as no run tells."""
    import pandas as pd

    from analysis.table import default_metrics

    done = made.with_standing("done")
    if goal.metric is not None or not done:
        return goal.metric or ""
    return default_metrics(pd.DataFrame([dict(cell.metrics) for cell in done]))[0]


def _any_done(cells: list[PlannedCell]) -> bool:
    return any(cell.standing == "done" for cell in cells)


def _target(made: Plan, goal: GoalConfig) -> tuple[float, float] | None:
    """The sizes of the goal's metric in numbers."""
    if goal.at is None:
        return None
    model, n_samples = goal.at
    if not isinstance(model, str):
        return float(model), float(n_samples)
    from models.kinds import size_of

    study = made.study
    options = study.options(model)
    size = size_of(study.grade(model, "goal.at"), options, made.data.schema)
    return float(size.n_params), float(n_samples)


def _round_text(one: PursuitRound) -> str:
    """One line for people."""
    seen = f"{counted(one.n_runs, 'run')}, {one.status}"
    if one.estimate is not None:
        low, high = ("open" if v is None else f"{v:.4g}" for v in (one.lower, one.upper))
        width = "open" if one.width is None else f"{one.width:.3g}"
        counts = "" if one.claims else ", not a claim"
        seen += f", {one.quantity} {one.estimate:.4g} [{low}, {high}], width {width} ({one.level:.2%}{counts})"
    money = f"spent {one.spent:.3g} of {one.budget:.3g} {one.unit}"
    if one.kind == "end":
        return f"round {one.number}: {seen}; {money}; the end: {one.reason}"
    more = len(one.labels) - _MOST_LABELS
    labels = ", ".join(one.labels[:_MOST_LABELS]) + (f" and {more} more" if more > 0 else "")
    then = "" if one.expected_width is None else f", expected width {one.expected_width:.3g}"
    return (
        f"round {one.number}: {seen}; {money}; trains {counted(len(one.cells), 'cell')} for {one.cost:.3g} "
        f"({labels}){then}: {one.reason}"
    )
