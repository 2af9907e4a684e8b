"""All models: DIN and BST against FuxiCTR's, HSTU against matrix products, packed training, many candidates of one user.

    .venv/bin/python benchmarks/model_speed.py [--peers FOLDER] [--quick] [training | hstu | packed | serving ...]

Prints a table and updates benchmarks/results/model_speed.json. FOLDER holds FuxiCTR, which only this benchmark needs:

    .venv/bin/python -m pip install --no-deps --target FOLDER fuxictr==2.3.10 pyyaml tqdm

Without it, the training steps of DIN and BST are timed alone. Every ratio is of CPU times of one thread, measured in turn within
this run, medians over rounds; absolute speeds belong to this machine.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from train_step import alternate, parts, random_batch, schema, share_of_products

from models.baselines import BSTOptions
from models.grades import Grade
from models.kinds import KINDS, encoder_class, exact_packing, options_of, options_type, size_of
from models.kinds.building import build_model
from scaling.process import prepare_process
from scaling.serving.latency_bench import random_candidates, random_history, ways_to_score
from scaling.study import GRADIENT_CLIP
from scaling.training.optimisers import build_optimisers

ROUNDS = 7
N_HEADS, D = 2, 8
SECTIONS = ("training", "hstu", "packed", "serving")


def build(kind: str, length: int, options=None, n_layers: int = 2, n_items: int = 10_000):
    """A model of a kind, of the width of benchmarks/train_step.py, with its options and features."""
    features = schema(n_items)
    options = options_of(kind, options or options_type(kind)(**kind_option(kind)))
    grade = Grade(n_layers, N_HEADS, D, length)
    return build_model(grade, options, features, base_rate=0.3, seed=0), options, features


def kind_option(kind: str) -> dict[str, str]:
    return {"kind": kind} if kind in ("suan", "lightsuan") else {}


def add_fuxictr(folder: Path) -> None:
    """Make FuxiCTR importable; torch, numpy and pandas stay those of this environment."""
    sys.path.append(str(folder))
    # data preparation and metrics, which take no part here and need Ray, polars and scikit-learn
    for name in ("fuxictr.preprocess", "fuxictr.preprocess.tokenizer", "fuxictr.metrics"):
        sys.modules[name] = MagicMock()


def scatter(model) -> None:
    """Move all parameters away from their start, so that a difference between two models shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        model.embeddings.weight[0] = 0


def our_step(model):
    """A step as `scaling.training` makes it: in parts, clipped."""
    optimisers = build_optimisers(model)
    dense = optimisers[0].param_groups[0]["params"]

    def step(batch):
        for optimiser in optimisers:
            optimiser.zero_grad()
        parts(model, batch)
        torch.nn.utils.clip_grad_norm_(dense, GRADIENT_CLIP, foreach=True)
        for optimiser in optimisers:
            optimiser.step()

    return step


# One layer is what DIN's authors released and what FuxiCTR takes for BST; its BST pools the mean of all tokens.
# A million items are as many as public ad logs have; FuxiCTR updates all rows in each step.
PEERS = (
    ("din", 1, None, 10_000),
    ("din", 2, None, 10_000),
    ("din", 1, None, 1_000_000),
    ("bst", 1, BSTOptions(), 10_000),
    ("bst", 2, BSTOptions(), 10_000),
    ("bst", 1, BSTOptions(), 1_000_000),
    ("bst", 1, BSTOptions(causal=False, pooling="mean"), 10_000),
    ("bst", 2, BSTOptions(causal=False, pooling="mean"), 10_000),
)


def training(length: int, batch_size: int, peers: bool) -> list[dict[str, object]]:
    """Steps of DIN and BST; the peer computes the same function from the same weights."""
    rows = []
    for kind, n_layers, options, n_items in PEERS:
        model, _, features = build(kind, length, options, n_layers, n_items)
        batches = [random_batch(features, batch_size, length, seed) for seed in range(2)]
        row: dict[str, object] = {
            "kind": kind,
            "layers": n_layers,
            "options": vars(options) if options else {},
            "items": n_items,
            "L": length,
            "batch": batch_size,
        }
        step = our_step(model)
        calls = {"ours": lambda number, step=step, batches=batches: step(batches[number])}
        if peers:
            import fuxictr_peers

            scatter(model)
            peer_type = {"din": fuxictr_peers.FuxiDIN, "bst": fuxictr_peers.FuxiBST}[kind]
            peer = peer_type(model, features).train()
            given = [fuxictr_peers.fuxi_batch(batch, features) for batch in batches]
            with torch.no_grad():
                ours, theirs = torch.sigmoid(model(batches[0])), peer(given[0])["y_pred"][:, 0]
            row["largest_difference"] = (ours - theirs).abs().max().item()
            row["range"] = (ours.max() - ours.min()).item()
            calls["fuxictr"] = lambda number, peer=peer, given=given: peer.train_step(given[number])
        seconds = alternate(calls, range(len(batches)), ROUNDS)
        row |= {f"{name}_samples_per_second": batch_size / s for name, s in seconds.items()}
        if peers:
            row["speed_up"] = seconds["fuxictr"] / seconds["ours"]
        rows.append(row)
    return rows


def hstu(length: int, batch_size: int) -> dict[str, float]:
    """FLOPs of HSTU's training step per second, as a share of those of large matrix products."""
    model, options, features = build("hstu", length)
    batches = [random_batch(features, batch_size, length, seed) for seed in range(3)]
    flops = size_of(model.grade, options, features).training_flops(batch_size)
    share = share_of_products(our_step(model), batches, flops, ROUNDS)
    # per layer projections of 10 D^2 per token and the products of all pairs, 4 D each, half of which are masked
    width, n_tokens = D * len(features.behaviour), length + 1
    dense = len(model.encoder.layers) * (10 * width**2 * n_tokens + 4 * width * n_tokens**2)
    all_pairs = share["share_of_gemm"] * 3 * dense * batch_size / flops
    return {"L": length, "batch": batch_size, **share, "share_counting_all_pairs": all_pairs}


def packed(kind: str, length: int, n_candidates: int = 10, n_passes: int = 20) -> dict[str, object]:
    """Training on impressions of shared requests: one pass for each request against one for each impression."""
    model, _, features = build(kind, length)
    step = our_step(model)
    single = [random_batch(features, n_passes * n_candidates, length, seed) for seed in range(3)]
    shared = [by_request(batch, n_passes, n_candidates) for batch in single]
    seconds = alternate(
        {
            "single": lambda number: step(single[number]),
            "packed": lambda number: step(shared[number]),
        },
        range(len(single)),
        ROUNDS,
    )
    speeds = {
        f"{name}_samples_per_second": n_passes * n_candidates / s for name, s in seconds.items()
    }
    return {
        "kind": kind,
        "L": length,
        "candidates": n_candidates,
        **speeds,
        "speed_up": seconds["single"] / seconds["packed"],
    }


def by_request(batch, n_passes: int, n_candidates: int):
    """The same impressions as if each request had `n_candidates` of them."""
    shape, first = (n_passes, n_candidates), slice(None, None, n_candidates)
    times, hours = (
        torch.cat([x[first, :-1], x[first, -1:].expand(shape)], 1)
        for x in (batch.times, batch.hours)
    )
    own = {
        name: getattr(batch, name).view(*shape, -1) for name in ("candidate", "context", "numeric")
    }
    return replace(
        batch,
        behaviours=batch.behaviours[first],
        times=times,
        hours=hours,
        lengths=batch.lengths[first],
        profile=batch.profile[first],
        label=batch.label.view(shape),
        **own,
    )


def serving(kind: str, length: int, n_candidates: int = 100) -> dict[str, object]:
    """Candidates of one user, whose history is encoded in the same call, against a pass for each candidate."""
    model, _, features = build(kind, length)
    scatter(model)
    model.eval()
    rng = np.random.default_rng(0)
    history = random_history(features, length, rng)
    request = random_candidates(features, n_candidates, int(np.max(history.times)) + 60, rng)
    ways = ways_to_score(model, features, history)
    scores = {name: np.asarray(way(history, request), np.float64) for name, way in ways.items()}
    repeats = {"single": 1, "repeated": 2}  # the others take milliseconds
    seconds = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            n_repeats = repeats.get(name, 10)
            begin = time.process_time()
            for _ in range(n_repeats):
                way(history, request)
            seconds[name].append((time.process_time() - begin) / n_repeats)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "kind": kind,
        "L": length,
        "candidates": n_candidates,
        "encodes_once": encoder_class(kind).encodes_once(model.options),
        "largest_difference": float(np.abs(scores["parallel"] - scores["single"]).max()),
        **{f"{name}_ms": 1e3 * value for name, value in medians.items()},
        "speed_up": medians["single"] / medians["parallel"],
    }


def measure(section: str, quick: bool, peers: bool) -> object:
    lengths = (50,) if quick else (50, 200)
    packable = [kind for kind in KINDS if "request" in exact_packing(build(kind, 8)[1])]
    if section == "training":
        return [row for length in lengths for row in training(length, 256, peers)]
    if section == "hstu":
        return [hstu(200, 64)]
    if section == "packed":
        return [packed(kind, length) for length in lengths for kind in packable]
    return [serving(kind, 200) for kind in packable]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="all by default")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="where FuxiCTR is")
    parser.add_argument(
        "--quick", action="store_true", help="only L = 50 where there are two lengths"
    )
    options = parser.parse_args()
    prepare_process()
    torch.set_flush_denormal(True)
    if options.peers:
        add_fuxictr(options.peers)
    path = Path(__file__).parent / "results" / "model_speed.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    result["torch"] = torch.__version__
    for section in options.sections or SECTIONS:
        result[section] = measure(section, options.quick, bool(options.peers))
        print(json.dumps({section: result[section]}, indent=2), flush=True)
        path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
