"""Optimizers under every condition: tuned Local SGD and DiLoCo, learned optimizers and their anchors.

The tuned ones are tuned in full, and keep the setting under every condition; learned ones are as they are. SparseLoCo,
made for its condition, is tuned under it and stands beside them in the figure. Every condition is a comparison in a
folder of its own, and one that lies there is not run again.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from eval.claims.conditions import CONDITIONS, FULL, GOSSIP
from eval.claims.finished import finished
from eval.compare.anchors import anchor_of
from eval.compare.checkpoints import read_checkpoint
from eval.compare.compare import Comparison
from eval.compare.compare import prepare as prepare_comparison
from eval.compare.compare import run as run_comparison
from eval.compare.contenders import Contender, over_local_steps
from eval.compare.grids import Grid, GridAxis
from eval.compare.learned import checkpoint_details, local_transform, local_words, named_checkpoints
from eval.machine.progress import Progress
from eval.protocol import EvalProtocol
from eval.report.spending import loss_against_bytes
from eval.report.tables import number
from eval.results import Kind, Results, save_results
from eval.sweep.plan import reference_name
from learned_opt.algorithms.server import diloco, fedavg
from learned_opt.atomic_file import write_atomic

SHIPPED = ("lopt_generalist", "lagg_any")
"""Those for every task. The specialists of this one may be named too; LAgg-A takes no part in gossip."""
DRAWN = (FULL, "4 bits", "2 bits", "top-k")
"""Conditions in the figure."""

Make = Callable[[Mapping[str, Any]], tuple[optax.GradientTransformation, optax.GradientTransformation]]
"""Hyper-parameters -> (the workers' optimizer, server optimizer)."""


class Column(NamedTuple):
    """One optimizer, whatever the condition.

    Attributes:
      make: hyper-parameters -> its two parts.
      kind: as in `Contender`.
      grid: its one setting.
      details: for the results files.
      reads_workers: whether it reads every worker, one by one.
    """

    make: Make
    kind: Kind
    grid: Grid = {}
    details: Mapping[str, Any] = {}
    reads_workers: bool = False


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
      progress -> the table as Markdown, which is also written; it runs everything that has not been run.

    Raises:
      FileNotFoundError, ValueError: as `eval.compare.learned.learned`, or a checkpoint that reads gradients.
    """
    protocol = EvalProtocol(
        task="fmnist8_mlp32",
        num_rounds=num_rounds,
        batch_size=32,
        num_seeds=num_seeds,
        tuning="coarse",
        num_curve_examples=4096,
        eval_every=next(every for every in (5, 3, 2, 1) if num_rounds % every == 0),
    )
    named = named_checkpoints(checkpoints or SHIPPED)
    fixed = _fixed(named, protocol)
    first = prepare_comparison(protocol, (), folder / "tuned", baselines=("targets", "sparse_loco"))

    def run(progress: Progress) -> str:
        tuned = {c.name: c for c in _run_or_read(first, progress).contenders}
        everyone = {
            "local_sgd": _with_setting(lambda h: (optax.sgd(h["local_lr"]), fedavg()), tuned["local_sgd"].hparams),
            "diloco": _with_setting(
                lambda h: (optax.sgd(h["local_lr"]), diloco(h["server_lr"], h["momentum"])), tuned["diloco"].hparams
            ),
            **fixed,
        }
        found: list[Results] = []
        for condition in CONDITIONS:
            contenders = [
                _under(name, column, condition, protocol)
                for name, column in everyone.items()
                if not (column.reads_workers and condition in GOSSIP)
            ]
            own = prepare_comparison(
                protocol,
                (),
                folder / reference_name(condition),
                baselines=(),
                contenders=contenders,
                family=first.family,
            )
            found.append(_run_or_read(own, lambda *stage, c=condition: progress(f"{c}: {stage[0]}", *stage[1:])))
            # Whoever stops it has what is finished.
            results = found[0]._replace(contenders=tuple(c for each in found for c in each.contenders))
            write_atomic(folder / "conditions.md", conditions_table(results, list(everyone)).encode())
        save_results(folder / "results.json", results)
        drawn = [f"{name}, {condition}" for name in ("diloco", named[-1][0]) for condition in DRAWN]
        lines = tuple(c for c in results.contenders if c.name in drawn)
        figure = loss_against_bytes(results._replace(contenders=(*lines, tuned["sparse_loco"])))
        write_atomic(folder / "loss_against_bytes.svg", figure.encode())
        return conditions_table(results, list(everyone))

    return run


def conditions_table(results: Results, names: Sequence[str]) -> str:
    """Final training losses: a row per finished condition, a column per optimizer; the bytes of a round first."""
    found = {c.name: c for c in results.contenders}
    lines = ["| condition | kB sent a round | " + " | ".join(names) + " |", "| --- |" + " ---: |" * (len(names) + 1)]
    for condition in CONDITIONS:
        row = [found.get(f"{name}, {condition}") for name in names]
        if not any(row):
            continue
        sent = next(c.bytes_per_round for c in row if c is not None)
        losses = ["-" if c is None else number(float(c.final["train"]["loss"].mean()), 3) for c in row]
        lines.append("| " + " | ".join((condition, f"{sent / 1000:.3g}", *losses)) + " |")
    p = results.protocol
    words = (
        f"Final training loss, mean of {p.num_seeds} seeds; {p.task}, K={p.num_workers}, H={p.num_local_steps}, batch "
        f"{p.batch_size}, {p.num_rounds} rounds. Local SGD and DiLoCo are tuned in full and keep the setting. -: reads "
        "every worker, which gossip does not have; one that reads statistics of the workers has those of one there."
    )
    return "\n".join([*lines, "", words, ""])


def _run_or_read(comparison: Comparison, progress: Progress) -> Results:
    known = finished(comparison.folder, comparison.protocol, comparison.contenders)
    return run_comparison(comparison, progress) if known is None else known


def _with_setting(make: Make, hparams: Mapping[str, float]) -> Column:
    grid = {name: GridAxis((value,)) for name, value in hparams.items()}
    return Column(make, "baseline", grid, {"setting": dict(hparams)})


def _fixed(named: Sequence[tuple[str, str]], protocol: EvalProtocol) -> dict[str, Column]:
    """The learned optimizers, each with its anchor beside; equal anchors stand there once."""
    found: dict[str, Column] = {}
    recipes: set[str] = set()
    for name, path in named:
        loaded = read_checkpoint(path)
        config = loaded.lopt.config
        if loaded.lopt.num_workers not in (None, protocol.num_workers):
            raise ValueError(f"{path}: built for {loaded.lopt.num_workers} workers, not {protocol.num_workers}")
        local = local_transform(path, loaded)
        if local is None:
            raise ValueError(f"{path}: reads gradients of one machine: name a server optimizer")
        theta = jax.tree.map(jnp.asarray, loaded.theta)
        server = loaded.lopt.transform(theta, num_steps=protocol.num_rounds)
        found[name] = Column(
            lambda h, local=local, server=server: (local, server),
            "learned",
            details=checkpoint_details(path, loaded),
            reads_workers=loaded.lopt.reads == "workers",
        )
        anchor = anchor_of(config)
        recipe = "" if anchor is None else f"{anchor.words.format(**config)}, {local_words(loaded)}"
        if anchor is not None and recipe not in recipes:
            recipes.add(recipe)
            step = anchor.make(config)
            found[f"{name}_anchor"] = Column(
                lambda h, local=local, step=step: (local, step),
                "anchor",
                details={"anchor_of": [name], "recipe": recipe},
            )
    return found


def _under(name: str, column: Column, condition: str, protocol: EvalProtocol) -> Contender:
    def algorithm(hparams: Mapping[str, Any]):
        workers, server = column.make(hparams)
        return CONDITIONS[condition](over_local_steps(workers, protocol), server, protocol.num_workers)

    return Contender(f"{name}, {condition}", algorithm, column.grid, column.details, column.kind)
