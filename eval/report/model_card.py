"""The model card of a learned optimizer, written from its checkpoint and from result files: what it is, every cell it
was evaluated in, and where it loses. Only its section "Notes" is written by hand, and kept.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from eval.compare.anchors import anchor_of
from eval.report.report import load_run, protocol_in_words
from eval.report.tables import NEVER, outcome_table, speed_table
from eval.results import Results, named
from eval.scores.measures import Measures, measures
from eval.scores.rivals import mean_speed_up, own_anchor
from eval.scores.targets import TARGETS
from eval.sweep.sweep import Sweep
from learned_opt.architectures import ARCHITECTURES
from learned_opt.atomic_file import write_atomic
from learned_opt.checkpoint import Checkpoint, load_checkpoint
from learned_opt.checkpoint.model_folder import FRONT_MATTER
from learned_opt.checkpoint.usage import how_used, usage_lines

NOTES = "## Notes"
PAPERS = {
    "lopt_a": "LOpt-A (Joseph et al. 2025, arXiv 2312.02204)",
    "lagg_a": "LAgg-A (Joseph et al. 2025, arXiv 2312.02204)",
    "adafac_mlp_lopt": "Single-machine MLP with Adafactor features (Metz et al. 2022, arXiv 2203.11860)",
}


class _Reading(NamedTuple):
    """One cell: the optimizer, its speed-up over its anchor ("-" without one), the baseline with the lowest test loss
    in it (a stricter rival than the one that tuning would have chosen) and that loss, and H.
    """

    own: Measures
    over_anchor: str
    rival: str
    rivals_loss: float
    num_local_steps: int


def write_model_card(
    name: str,
    checkpoint: str | os.PathLike[str],
    runs: Sequence[str | os.PathLike[str]],
    path: str | os.PathLike[str],
) -> Path:
    """Writes the card of one optimizer; the section "Notes" of a card that is there already stays.

    Args:
      name: of the optimizer, in the title and in the result files.
      checkpoint: file, or name of a pretrained one.
      runs: run folders of suites, axes or comparisons, or results files.
      path: the Markdown file.

    Raises:
      FileNotFoundError: no such checkpoint or run.
      ValueError: an unreadable file, or a run in which the optimizer took no part.
    """
    file = Path(path)
    _, mark, notes = file.read_text().partition(NOTES) if file.exists() else ("", "", "")
    sweeps = [load_run(run) for run in runs]
    text = model_card(name, load_checkpoint(checkpoint), sweeps)
    write_atomic(file, (text + (f"\n{mark}{notes}" if mark else "")).encode())
    return file


def model_card(name: str, checkpoint: Checkpoint, sweeps: Sequence[Sweep]) -> str:
    """The card, without notes.

    Raises:
      ValueError: a sweep in which the optimizer took no part.
    """
    config, card = checkpoint.lopt.config, checkpoint.card
    step = anchor_of(config)
    anchor = "in its published form" if step is None else f"anchored on {step.words.format(**config)}"
    parts = [
        f"{FRONT_MATTER}# {name}\n",
        f"{_architecture(config['architecture'])}, {anchor}.\n",
        _markdown([["", ""], *_facts(checkpoint, card, config)]),
        "\n".join(["```python", *usage_lines(name, checkpoint), "```\n"]),
    ]
    losses: list[str] = []
    for sweep in sweeps:
        cells = {c: results for c, results in sweep.finished.items() if name in [x.name for x in results.contenders]}
        if not cells:
            raise ValueError(f"{name} took no part in {sweep.plan.kind} {sweep.plan.name}: name another run")
        words = protocol_in_words(next(iter(cells.values())).protocol)
        words += " That is the first cell; the axis changes it." if sweep.plan.kind == "axis" else ""
        parts += [f"## Results: {_title(sweep)}\n", words + "\n"]
        if len(cells) > 1 and sweep.plan.kind != "axis":
            parts.append(_over_all_cells(name, list(cells.values())))
        readings = {cell: _reading(results, name) for cell, results in cells.items()}
        parts.append(_markdown(_cell_rows(readings)))
        losses += _losses(readings)
    if sweeps:
        parts += ["## Where it loses\n", "\n".join(losses or ["- In none of the cells above."]) + "\n"]
    parts.append("Whatever is not listed above was not measured.\n")
    return "\n".join(parts)


def _how_searched(search: dict[str, Any]) -> str:
    if not search["generations"]:
        return "{numbers} numbers, where earlier searches by CMA-ES had ended or set by hand".format(**search)
    how = "CMA-ES over {numbers} numbers, {generations} generations of {population}, each judged by whole trainings; "
    return (how + "seed {seed}").format(**search)


def _facts(checkpoint: Checkpoint, card: dict[str, Any], config: dict[str, Any]) -> list[list[str]]:
    """What the checkpoint says of itself, row by row."""
    settings = card.get("meta_train_config") or {}
    used = how_used(checkpoint)
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(checkpoint.theta))
    rows = [
        ["reads", used["reads"]],
        ["local optimizer", used["local optimizer"]],
        ["workers", used["workers"]],
        ["network", f"{_network(config)}; {size:,} meta-parameters"],
    ]
    if search := card.get("search"):
        rows += [
            ["meta-trained on", f"{card['task'].replace(' + ', ', ')}; {_several(card)}"],
            ["how", _how_searched(search)],
        ]
    if settings:
        # Files from before there was a choice of estimators are PES's.
        how = (
            f"{settings.get('estimator', 'pes')}, {settings['num_tasks']} tasks a meta-step",
            f"sigma {settings['sigma']:g}",
            f"truncation {settings['truncation_length']}",
            f"episodes of {settings['min_unroll_length']} to {settings['max_unroll_length']} rounds",
            f"{card['meta_steps']} meta-steps in {card['meta_train_seconds'] / 60:.0f} minutes on {card['device']}",
            f"seed {settings['seed']}, jax {card['jax']}",
        )
        inner = "K = {num_workers}, H = {num_local_steps}, batch {batch_size}".format(**card)
        rows += [
            ["meta-trained on", f"{_tasks(settings, card)}; {inner} where nothing else is said"],
            ["meta-loss", settings["meta_loss_split"]],
            ["how", ", ".join(how)],
        ]
        if settings.get("initial_theta"):
            rows.append(["started from", f"`{settings['initial_theta']}`"])
    return rows


def _several(card: dict[str, Any]) -> str:
    fields = {"K": "num_workers", "H": "num_local_steps", "batch": "batch_size"}
    return ", ".join(f"{name} = {min(card[field])} to {max(card[field])}" for name, field in fields.items())


def _architecture(name: str) -> str:
    """With its paper, or the first line of its docstring."""
    return PAPERS.get(name) or (ARCHITECTURES[name].__doc__ or name).strip().partition("\n")[0].rstrip(".")


def _network(config: dict[str, Any]) -> str:
    if "hidden_layers" in config:
        return f"{config['hidden_layers']} hidden layers of {config['hidden_size']}"
    sizes = [f"{field.replace('_', ' ')} {value}" for field, value in config.items() if field.endswith("_size")]
    return ", ".join(sizes) or "none"


def _tasks(settings: dict[str, Any], card: dict[str, Any]) -> str:
    """The components with what they set, or the task."""
    texts = []
    for component in settings.get("components") or ():
        own = [f"{k} {v}" for k, v in component.items() if v is not None and k not in ("task", "name", "weight")]
        texts.append(component["task"] + (f" ({', '.join(own)})" if own else ""))
    return ", ".join(texts) or str(card["task"])


def _title(sweep: Sweep) -> str:
    protocol = next(iter(sweep.finished.values())).protocol
    if sweep.plan.kind == "axis":
        return f"{sweep.plan.label or sweep.plan.name}, on {protocol.task}"
    where = f"{len(sweep.finished)} families" if sweep.plan.kind == "suite" else sweep.plan.name
    return f"{where} at H = {protocol.num_local_steps}"


def _reading(results: Results, name: str) -> _Reading:
    everyone = measures(results)
    losses = {m.name: m.final["test"]["loss"] for m in everyone if m.kind == "baseline"}
    finite = {rival: loss for rival, loss in losses.items() if np.isfinite(loss)} or {NEVER: np.inf}
    rival = min(finite, key=finite.__getitem__)
    own = next(m for m in everyone if m.name == name)
    mine, anchor = named(results, name), own_anchor(name)(results)
    over_anchor = NEVER
    if mine is not None and anchor is not None:
        ratio = mean_speed_up(mine, anchor)
        over_anchor = "never" if ratio is None else f"{ratio:.2f}"
    return _Reading(own, over_anchor, rival, finite[rival], results.protocol.num_local_steps)


def _over_all_cells(name: str, cells: list[Results]) -> str:
    """Its rows of the report's tables over all cells, in words."""
    lines = []
    for table in (speed_table(cells), outcome_table(cells)):
        header, *body = table.rows
        row = next(row for row in body if row[0] == name)
        lines += [f"- {label}: {value}" for label, value in zip(header[1:], row[1:], strict=True)]
    return "\n".join(lines) + "\n"


def _cell_rows(readings: dict[str, _Reading]) -> list[list[str]]:
    rows = [["cell", *(f"speed-up over {target}" for target in TARGETS.values())]]
    rows[0] += ["over its anchor", "test loss", "of the best tuned in it"]
    for cell, (own, over_anchor, rival, rivals_loss, _) in readings.items():
        ups = [*(_speed_up(own, target) for target in TARGETS), over_anchor]
        rows.append([cell, *ups, f"{own.final['test']['loss']:.4g}", f"{rivals_loss:.4g} ({rival})"])
    return rows


def _speed_up(own: Measures, target: str) -> str:
    cost = own.to_target.get(target)
    if cost is None:
        return NEVER
    return "never" if cost.speed_up is None else f"{cost.speed_up:.2f}"


def _losses(readings: dict[str, _Reading]) -> list[str]:
    """A line for every cell in which a baseline is faster, or ends with a lower test loss."""
    lines = []
    for cell, (own, over_anchor, rival, rivals_loss, num_local_steps) in readings.items():
        said = []
        slower = [
            TARGETS[target] for target, cost in own.to_target.items() if cost.speed_up is None or cost.speed_up <= 1
        ]
        if over_anchor == "never" or (over_anchor != NEVER and float(over_anchor) <= 1):
            slower.append("its anchor")
        if slower:
            said.append(f"not faster than {' or '.join(slower)}")
        if not own.final["test"]["loss"] <= rivals_loss:
            said.append(f"test loss {own.final['test']['loss']:.4g} against {rivals_loss:.4g} ({rival})")
        if own.diverged:
            said.append(f"{100 * own.diverged:.0f}% of its runs diverged")
        if said:
            lines.append(f"- {cell} at H = {num_local_steps}: {'; '.join(said)}")
    return lines


def _markdown(rows: list[list[str]]) -> str:
    first, *rest = rows
    rule = ["---"] * len(first)
    return "\n".join("| " + " | ".join(row) + " |" for row in (first, rule, *rest)) + "\n"
