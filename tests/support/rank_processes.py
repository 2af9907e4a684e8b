"""Starts the processes of a group of ranks, each of which calls one function of a test module's support file."""

import json
import multiprocessing
import traceback
from contextlib import ExitStack
from pathlib import Path


def run_ranks(function, n_ranks, folder, *arguments, answer_seconds=60.0, **named):
    """Call `function(ranks, *arguments, **named)` in `n_ranks` processes; return what each returned, or the text of its error."""
    # forks of one process that has loaded torch and what it loads in the first step, which takes seconds
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "scaling.store", "scaling.training"])
    places = [Path(folder) / f"{n_ranks}-{rank}.json" for rank in range(n_ranks)]
    for place in places:
        place.unlink(missing_ok=True)
    meeting = Path(folder) / f"meeting-{n_ranks}.json"
    processes = [
        context.Process(
            target=_call,
            args=(function, rank, n_ranks, meeting, place, answer_seconds, arguments, named),
        )
        for rank, place in enumerate(places)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [json.loads(place.read_text()) if place.exists() else None for place in places]


def _call(function, rank, n_ranks, meeting, place, answer_seconds, arguments, named):
    import torch

    from scaling.training import ALONE, joined_ranks

    torch.set_num_threads(1)
    with ExitStack() as stack:
        ranks = ALONE
        if n_ranks > 1:
            group = joined_ranks(rank, n_ranks, meeting, "cpu", answer_seconds=answer_seconds)
            ranks = stack.enter_context(group)
        try:
            result = function(ranks, *arguments, **named)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at its text
            traceback.print_exc()
            result = f"{type(error).__name__}: {error}"
        place.write_text(json.dumps(result))


def largest_of_ranks(ranks):
    """Agree on a number that is largest on the last rank, on the first, and the same on all."""
    return [ranks.largest(ranks.rank), ranks.largest(3 - ranks.rank), ranks.largest(1)]


def losses_and_logits(ranks, data, kinds, n_samples=512, sharded=False):
    """Train each of the runs `kinds` in memory; return losses of all steps and logits of the test part."""
    from scaling.batches import Epoch, find_groups
    from scaling.store import open_store
    from scaling.training import Training, predict

    store, found = open_store(data), {}
    for kind in kinds:
        own = {} if kind == "uneven" else {"n_samples": n_samples}
        config = rank_config(store, kind, **own)
        training = Training(config, store, ranks=ranks, sharded=sharded)
        training.advance(Epoch(config, store, find_groups(config, store)), lambda: None)
        logits = predict(training.model, store, config.max_len, ranks=ranks)
        found[kind] = (list(training.losses), logits.tolist())
    return found


def losses_of_both(ranks, data, kinds, n_samples):
    """`losses_and_logits` of the first kinds with a whole table, and of the second ones with a divided table."""
    return [
        losses_and_logits(ranks, data, own, n_samples, sharded)
        for own, sharded in zip(kinds, (False, True), strict=True)
    ]


def rank_config(store, kind, **changes):
    """A run of SUAN-2 in 8 steps, or of what `kind` says."""
    from small_runs import small_config

    from models.grades import GRADES
    from models.model_options import SuanOptions
    from scaling.study import Distillation

    light = SuanOptions(kind="lightsuan", window=4, dilation=4)
    teacher = Distillation("SUAN-2", GRADES["SUAN-2"], SuanOptions(), 0.003, 1.0, 2.0)
    own = {
        "plain": {},
        "dropout": {"model": SuanOptions(dropout=0.1)},
        "request": {"packing": "request"},
        "stretch": {
            "packing": "stretch",
            "model": SuanOptions(pooling="running", positions="start"),
        },
        "lightsuan": {"model": light},
        "distilled": {"model": light, "distill": teacher},
        # the last of 5 steps has 2 rows, so that of 4 ranks two have none
        "uneven": {"n_samples": 258},
    }[kind]
    usual = {
        "grade_name": "SUAN-2",
        "grade": GRADES["SUAN-2"],
        "model": SuanOptions(),
        "n_samples": 512,
        "batch_size": 64,
        "learning_rate": 0.003,
        "data_order": "shared",
    }
    return small_config(store, **(usual | own | changes))


def rows_on_ranks(ranks, data):
    """Train with a divided table; return how many rows and moments this rank holds."""
    from scaling.batches import Epoch, find_groups
    from scaling.store import open_store
    from scaling.training import Training

    store = open_store(data)
    config = rank_config(store, "plain")
    training = Training(config, store, ranks=ranks, sharded=True)
    training.advance(Epoch(config, store, find_groups(config, store)), lambda: None)
    (moments,) = (
        value
        for name, value in training.checkpoint("all", {}).rows.items()
        if name.endswith("exp_avg")
    )
    return [len(training.model.embeddings.weight), len(moments)]


def train_on_disk(ranks, data, folder, stop_at, kind="plain", sharded=False):
    """Train a run on disk and return its record's numbers; stop after the steps in `stop_at`, which the last rank asks for.

    With `sharded` each device has so little memory that several ranks divide the table.
    """
    from small_runs import numbers

    from scaling.records import RunStore
    from scaling.store import open_store
    from scaling.study import RunOptions
    from scaling.training import PreemptedError, train_run
    from scaling.training.loop import Training

    store = open_store(data)
    config = rank_config(store, kind)
    advanced = []
    train_step = Training._train_step

    def count(training, *arguments):
        advanced.append(training.step)
        return train_step(training, *arguments)

    def stop():
        last = ranks.rank == ranks.size - 1
        return "asked to" if last and advanced and advanced[-1] + 1 == stop_at else None

    Training._train_step = count
    try:
        record = train_run(
            config, store, RunStore(Path(folder)), ranks=ranks, stop=stop,
            options=RunOptions(device_memory_gib=1e-6 if sharded else None),
        )  # fmt: skip
    except PreemptedError as error:
        return {"stopped": str(error), "steps": advanced}
    finally:
        Training._train_step = train_step
    return {"numbers": json.loads(json.dumps(numbers(record), default=str)), "steps": advanced}


def die_or_hang(ranks, data, folder, how):
    """Train a run on disk; the last rank kills itself, hangs, or meets an error of its own, before step 3."""
    import os
    import signal
    import time

    from scaling.errors import UserError
    from scaling.training.loop import Training

    train_step = Training._train_step

    def fail(training, *arguments):
        if training.step == 3 and ranks.rank == ranks.size - 1:
            if how == "memory":
                raise MemoryError("no room for the gradients")
            if how == "user":
                raise UserError("this node does not see the data")
            if how == "hang":
                time.sleep(20)
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(training, *arguments)

    Training._train_step = fail
    return train_on_disk(ranks, data, folder, None)
