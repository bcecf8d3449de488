"""Optimizers under every condition: tuned Local SGD and DiLoCo, learned optimizers and the anchor of the first.

The tuned ones are tuned in full, and keep the setting under every condition; learned ones are as they are. SparseLoCo,
made for its condition, is tuned under it and stands beside them in the figure.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from eval.claims.conditions import CONDITIONS, FULL, GOSSIP
from eval.compare.anchors import anchor_of
from eval.compare.checkpoints import read_checkpoint
from eval.compare.compare import prepare as prepare_comparison
from eval.compare.compare import run as run_comparison
from eval.compare.contenders import Contender, over_local_steps
from eval.compare.grids import Grid, GridAxis
from eval.compare.learned import local_transform, named_checkpoints
from eval.machine.progress import Progress
from eval.protocol import EvalProtocol
from eval.report.spending import loss_against_bytes
from eval.report.tables import number
from eval.results import Results
from learned_opt.algorithms.server import diloco, fedavg
from learned_opt.atomic_file import write_atomic

SHIPPED = ("lopt_fmnist8_k8_h4", "lagg_fmnist8_k8_h4", "lopt_generalist")
"""LOpt-A and LAgg-A of this task, and the one for every task; the anchor is that of the last."""

Make = Callable[[Mapping[str, Any]], tuple[optax.GradientTransformation, optax.GradientTransformation]]
"""Hyper-parameters -> (the workers' optimizer, server optimizer)."""


def prepare(
    checkpoints: Sequence[str | os.PathLike[str]], folder: Path, num_rounds: int, num_seeds: int
) -> Callable[[Progress], str]:
    """Checks what a user may have got wrong.

    Args:
      checkpoints: as for `eval.compare.compare.prepare`; none: SHIPPED.
      folder: for the results, conditions.md and loss_against_bytes.svg.
      num_rounds: of every run.
      num_seeds: final runs of each.

    Returns:
      progress -> the table as Markdown, which is also written; it runs everything.

    Raises:
      FileNotFoundError, ValueError: as `eval.compare.learned.learned`, or a checkpoint that reads gradients.
    """
    protocol = EvalProtocol(
        *("fmnist8_mlp32", num_rounds),
        num_seeds=num_seeds,
        tuning="coarse",
        num_curve_examples=4096,
        eval_every=next(every for every in (5, 3, 2, 1) if num_rounds % every == 0),
    )
    named = named_checkpoints(checkpoints or SHIPPED)
    fixed = _fixed(named, protocol)
    first = prepare_comparison(protocol, (), folder / "full", baselines=("targets", "sparse_loco"))

    def run(progress: Progress) -> str:
        tuned = {c.name: c for c in run_comparison(first, progress).contenders}
        everyone = {
            "local_sgd": _with_setting(lambda h: (optax.sgd(h["local_lr"]), fedavg()), tuned["local_sgd"].hparams),
            "diloco": _with_setting(
                lambda h: (optax.sgd(h["local_lr"]), diloco(h["server_lr"], h["momentum"])), tuned["diloco"].hparams
            ),
            **fixed,
        }
        contenders = [
            _under(name, make, grid, condition, protocol)
            for condition in CONDITIONS
            for name, (make, grid, reads_workers) in everyone.items()
            if not (reads_workers and condition in GOSSIP)
        ]
        comparison = prepare_comparison(protocol, (), folder, baselines=(), contenders=contenders)
        results = run_comparison(comparison, progress)
        text = conditions_table(results, list(everyone))
        write_atomic(folder / "conditions.md", text.encode())
        drawn = [c for c in results.contenders if c.name.partition(", ")[0] in ("diloco", named[-1][0])]
        drawn = [c for c in drawn if c.name.partition(", ")[2] in (FULL, "4 bits", "2 bits", "top-k")]
        figure = loss_against_bytes(results._replace(contenders=(*drawn, tuned["sparse_loco"])))
        write_atomic(folder / "loss_against_bytes.svg", figure.encode())
        return text

    return run


def conditions_table(results: Results, names: Sequence[str]) -> str:
    """Final training losses: a row per condition, a column per optimizer; the bytes of a round first."""
    found = {c.name: c for c in results.contenders}
    lines = ["| condition | kB sent a round | " + " | ".join(names) + " |", "| --- |" + " ---: |" * (len(names) + 1)]
    for condition in CONDITIONS:
        row = [found.get(f"{name}, {condition}") for name in names]
        sent = next(c.bytes_per_round for c in row if c is not None)
        losses = ["-" if c is None else number(float(c.final["train"]["loss"].mean()), 3) for c in row]
        lines.append("| " + " | ".join((condition, f"{sent / 1000:.3g}", *losses)) + " |")
    p = results.protocol
    words = (
        f"Final training loss, mean of {p.num_seeds} seeds; {p.task}, K={p.num_workers}, H={p.num_local_steps}, batch "
        f"{p.batch_size}, {p.num_rounds} rounds. Local SGD and DiLoCo are tuned in full and keep the setting. -: reads "
        "every worker, which gossip does not have."
    )
    return "\n".join([*lines, "", words, ""])


def _with_setting(make: Make, hparams: Mapping[str, float]) -> tuple[Make, Grid, bool]:
    return make, {name: GridAxis((value,)) for name, value in hparams.items()}, False


def _fixed(named: Sequence[tuple[str, str]], protocol: EvalProtocol) -> dict[str, tuple[Make, Grid, bool]]:
    """The learned optimizers, and the anchor of the last."""
    found: dict[str, tuple[Make, Grid, bool]] = {}
    for name, path in named:
        loaded = read_checkpoint(path)
        if loaded.lopt.num_workers not in (None, protocol.num_workers):
            raise ValueError(f"{path}: built for {loaded.lopt.num_workers} workers, not {protocol.num_workers}")
        local = local_transform(path, loaded)
        if local is None:
            raise ValueError(f"{path}: reads gradients of one machine: name a server optimizer")
        theta = jax.tree.map(jnp.asarray, loaded.theta)
        server = loaded.lopt.transform(theta, num_steps=protocol.num_rounds)
        reads_workers = loaded.lopt.reads in ("workers", "statistics")
        found[name] = (lambda h, local=local, server=server: (local, server), {}, reads_workers)
        anchor = anchor_of(loaded.lopt.config)
        if anchor is not None and name == named[-1][0]:
            step = anchor.make(loaded.lopt.config)
            found[f"{name}_anchor"] = (lambda h, local=local, step=step: (local, step), {}, False)
    return found


def _under(name: str, make: Make, grid: Grid, condition: str, protocol: EvalProtocol) -> Contender:
    def algorithm(hparams: Mapping[str, Any]):
        workers, server = make(hparams)
        return CONDITIONS[condition](over_local_steps(workers, protocol), server, protocol.num_workers)

    return Contender(f"{name}, {condition}", algorithm, grid)
