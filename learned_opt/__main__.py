"""Command line: `python -m learned_opt list`, `inspect NAME`, `card NAME`, `export NAME FOLDER`, `algorithms`,
`optimizers`.

NAME is a pretrained optimizer, a checkpoint file, a run folder of meta-training, or a folder of `export`; of an
architecture of your own `NAME,architecture=my_opt.py:my_lopt`. Exit code 2 and one line for a mistake.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from learned_opt.algorithm_table import table_text
from learned_opt.checkpoint import load_checkpoint
from learned_opt.checkpoint.checkpoint_file import read_bytes
from learned_opt.checkpoint.model_folder import export_folder, model_card
from learned_opt.checkpoint.reference import path_and_architectures, read_checkpoint, split_reference
from learned_opt.checkpoint.usage import LENGTH, how_used, needs_num_steps, usage_lines
from learned_opt.optimizers.table import optimizers_text
from learned_opt.pretrained import pretrained_names

_SETTINGS = "meta_train_config"
_NAME_HELP = "pretrained name, file, run folder or exported folder; your own: NAME,architecture=my_opt.py:my_lopt"


class _OneLineParser(argparse.ArgumentParser):
    """Says a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; '{self.prog} --help' lists what there is")


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    parser = _OneLineParser(prog="python -m learned_opt", description="Learned optimizers at hand.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="pretrained optimizers: what they read, their local steps, K, H and batch")
    inspect = commands.add_parser("inspect", help="what an optimizer is, was trained for and costs, and how to call it")
    inspect.add_argument("name", help=_NAME_HELP)
    inspect.add_argument("--all", action="store_true", help="also every setting of its meta-training")
    card = commands.add_parser("card", help="its model card: every cell it was evaluated in, and where it loses")
    card.add_argument("name", help=_NAME_HELP)
    export = commands.add_parser("export", help="write a folder in the layout of the Hugging Face hub")
    export.add_argument("name", help=_NAME_HELP)
    export.add_argument("folder", help="folder to write")
    commands.add_parser("algorithms", help="distributed algorithms and server optimizers: paper, use")
    commands.add_parser("optimizers", help="hand-designed optimizers: paper, use")
    try:
        command = parser.parse_args(arguments)
        if command.command == "list":
            print(table())
        elif command.command == "algorithms":
            print(table_text())
        elif command.command == "optimizers":
            print(optimizers_text())
        elif command.command == "inspect":
            print(description(command.name, command.all))
        elif command.command == "card":
            print(model_card(*path_and_architectures(command.name)).rstrip())
        else:
            name, architectures = path_and_architectures(command.name)
            print(f"wrote {export_folder(name, command.folder, architectures)}")
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not write to it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        print(f"learned_opt: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def table() -> str:
    """A line for every pretrained optimizer, under one of headings."""
    rows = [["name", "reads", "local optimizer", "workers", "meta-trained at", "on"]]
    for name in pretrained_names():
        checkpoint = load_checkpoint(name)
        tasks = str(checkpoint.card.get("task", "-")).split(" + ")
        rows.append([name, *how_used(checkpoint).values(), tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def description(name: str, everything: bool = False) -> str:
    """How it is used, what the file says, the cost of the optimizer's state, and five lines that call it.

    Args:
      name: what to load, with its architecture if that is one's own.
      everything: also every setting of its meta-training, a line each.
    """
    checkpoint = read_checkpoint(name)
    name, _ = split_reference(name)
    content = read_bytes(name)
    config, card = checkpoint.lopt.config, checkpoint.card
    num_meta_params = sum(np.size(leaf) for leaf in jax.tree.leaves(checkpoint.theta))
    params = {"w": jax.ShapeDtypeStruct((256, 256), "float32")}
    state = jax.eval_shape(checkpoint.transform(LENGTH if needs_num_steps(checkpoint) else None).init, params)
    state_floats = sum(leaf.size for leaf in jax.tree.leaves(state)) / 256**2
    lines: dict[str, Any] = {
        "name": name,
        **how_used(checkpoint),
        **config,
        "meta-parameters": num_meta_params,
        "state": f"{state_floats:.2f} numbers per parameter of a 256 x 256 matrix",
        "file": f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}",
        **{field: value for field, value in card.items() if field not in (*config, _SETTINGS)},
    }
    if everything:
        lines |= _flat(_SETTINGS, card.get(_SETTINGS, {}))
    width = max(map(len, lines))
    shown = [f"{field:<{width}}  {v if isinstance(v, str) else json.dumps(v)}" for field, v in lines.items()]
    if card.get(_SETTINGS) and not everything:
        shown.append(f"{_SETTINGS:<{width}}  {len(card[_SETTINGS])} settings, shown with --all")
    return "\n".join([*shown, "", *usage_lines(name, checkpoint)])


def _flat(field: str, value: Any) -> dict[str, Any]:
    """The entries of a nested value by their path, without those that are null."""
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        entries = enumerate(value)
    else:
        return {} if value is None else {field: value}
    return {path: leaf for key, entry in entries for path, leaf in _flat(f"{field}.{key}", entry).items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
