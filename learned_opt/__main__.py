"""Command line: `python -m learned_opt list`, `inspect NAME`, `export NAME FOLDER`.

NAME is a pretrained optimizer, a checkpoint file, or a folder of `export`. Exit code 2 and one line for a mistake.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence

import jax
import numpy as np

from learned_opt.architectures import SINGLE_MACHINE
from learned_opt.checkpoint import load_checkpoint
from learned_opt.checkpoint_file import read_bytes
from learned_opt.model_folder import export_folder
from learned_opt.pretrained import pretrained_names


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m learned_opt", description="Learned optimizers at hand.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="pretrained optimizers, one per line")
    inspect = commands.add_parser("inspect", help="what an optimizer is, was trained for, and costs")
    inspect.add_argument("name", help="pretrained name, file or folder")
    export = commands.add_parser("export", help="write a folder in the layout of the Hugging Face hub")
    export.add_argument("name", help="pretrained name, file or folder")
    export.add_argument("folder", help="folder to write")
    command = parser.parse_args(arguments)
    try:
        if command.command == "list":
            print("\n".join(map(summary, pretrained_names())))
        elif command.command == "inspect":
            print(description(command.name))
        else:
            print(f"wrote {export_folder(command.name, command.folder)}")
    except (ValueError, OSError) as error:
        print(f"learned_opt: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def summary(name: str) -> str:
    """One line: name, architecture, workers, local steps, task, size."""
    checkpoint = load_checkpoint(name)
    config, card = checkpoint.lopt.config, checkpoint.card
    if config["architecture"] in SINGLE_MACHINE:
        workers = "single machine"
    else:
        workers = f"K={config['num_workers']}" if "num_workers" in config else "any K"
        is_mixture = bool(card.get("meta_train_config", {}).get("components"))
        workers += f", H={card['num_local_steps']}" if "num_local_steps" in card and not is_mixture else ""
    parts = [config["architecture"], workers, f"trained for {card.get('task', 'an unnamed task')}"]
    return f"{name}: {', '.join(parts)}, {len(read_bytes(name)) / 1000:.0f} kB"


def description(name: str) -> str:
    """Everything the file says, and the cost of the optimizer's state."""
    checkpoint = load_checkpoint(name)
    content = read_bytes(name)
    num_meta_params = sum(np.size(leaf) for leaf in jax.tree.leaves(checkpoint.theta))
    params = {"w": jax.ShapeDtypeStruct((256, 256), "float32")}
    state = jax.eval_shape(checkpoint.lopt.transform(checkpoint.theta).init, params)
    state_floats = sum(leaf.size for leaf in jax.tree.leaves(state)) / 256**2
    lines = {
        "name": name,
        **checkpoint.lopt.config,
        "meta-parameters": num_meta_params,
        "state": f"{state_floats:.2f} numbers per parameter of a 256 x 256 matrix",
        "file": f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}",
        **{field: value for field, value in checkpoint.card.items() if field not in checkpoint.lopt.config},
    }
    width = max(map(len, lines))
    return "\n".join(
        f"{field:<{width}}  {value if isinstance(value, str) else json.dumps(value)}" for field, value in lines.items()
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
