"""A checkpoint as a folder in the layout of the Hugging Face hub: `model.safetensors`, `config.json`, `README.md`.

`model.safetensors` is the checkpoint itself, byte for byte, so `learned_opt.load(folder)` needs nothing else; the other
two repeat for people and for the hub's pages what its header says.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from learned_opt.atomic_file import write_atomic
from learned_opt.checkpoint.checkpoint import Checkpoint, load_checkpoint
from learned_opt.checkpoint.checkpoint_file import MODEL_FILE, read_bytes
from learned_opt.checkpoint.rebuilding import Architectures
from learned_opt.checkpoint.usage import how_used, usage_lines
from learned_opt.pretrained import find_model_card

CONFIG_FILE, README_FILE = "config.json", "README.md"
FRONT_MATTER = """---
license: apache-2.0
tags: [learned-optimizer, local-sgd, optax]
library_name: learned-opt
---
"""
"""What the hub reads at the top of a model card."""


def export_folder(
    path_or_name: str | os.PathLike[str], folder: str | os.PathLike[str], architectures: Architectures | None = None
) -> Path:
    """Writes a checkpoint as a folder.

    Args:
      path_or_name: checkpoint file, such a folder, or the name of a pretrained optimizer.
      folder: created if need be.
      architectures: name -> function, for a file whose architecture is not the library's.

    Returns:
      The folder.

    Raises:
      FileNotFoundError: no such checkpoint.
      ValueError: a damaged checkpoint, or a folder that already holds files of these names.
      OSError: the folder cannot be written.
    """
    name, folder = os.fspath(path_or_name), Path(folder)
    checkpoint = load_checkpoint(name, architectures)
    for file in (MODEL_FILE, CONFIG_FILE, README_FILE):
        if (folder / file).exists():
            raise ValueError(f"{folder / file} exists: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    config = {"library_name": "learned-opt", "config": checkpoint.lopt.config, "card": checkpoint.card}
    card = _written_card(name) or _made_card(Path(name).stem, folder.name, checkpoint)
    write_atomic(folder / README_FILE, card.encode())
    write_atomic(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())
    write_atomic(folder / MODEL_FILE, read_bytes(name))
    return folder


def push_to_hub(folder: str | os.PathLike[str], repo_id: str, **kwargs: Any) -> str:
    """Uploads a folder of `export_folder` to the Hugging Face hub; needs the extra `hub`.

    Args:
      folder: what to upload; it is loaded first, so a damaged one stays here.
      repo_id: "user/name"; created if need be.
      **kwargs: for `huggingface_hub.HfApi.upload_folder` (commit_message, revision, token, ...).

    Returns:
      Address of the commit.

    Raises:
      ModuleNotFoundError: huggingface_hub is not installed.
      FileNotFoundError: no checkpoint in the folder.
      ValueError: a damaged checkpoint.
    """
    try:
        from huggingface_hub import HfApi  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise ModuleNotFoundError("push_to_hub needs huggingface_hub: pip install 'learned-opt[hub]'") from None
    if not (Path(folder) / MODEL_FILE).is_file():
        raise FileNotFoundError(f"{Path(folder) / MODEL_FILE}: no such file; make it with learned_opt.export_folder")
    load_checkpoint(folder)
    api = HfApi()
    api.create_repo(repo_id, exist_ok=True)
    return str(api.upload_folder(folder_path=os.fspath(folder), repo_id=repo_id, **kwargs))


def model_card(path_or_name: str | os.PathLike[str], architectures: Architectures | None = None) -> str:
    """The model card, in Markdown: a pretrained optimizer's own, that in the folder, or one made of what the file says.

    Args:
      path_or_name, architectures: as in `export_folder`.

    Raises:
      FileNotFoundError, ValueError: as `load_checkpoint`.
    """
    name = os.fspath(path_or_name)
    checkpoint = load_checkpoint(name, architectures)
    return _written_card(name) or _made_card(Path(name).stem, name, checkpoint)


def _written_card(name: str) -> str | None:
    """The one in the folder, or, where `load_checkpoint` finds no file, that of the pretrained optimizer."""
    in_folder = Path(name) / README_FILE
    if in_folder.is_file():
        return in_folder.read_text()
    return None if Path(name).exists() else find_model_card(name)


def _made_card(title: str, name: str, checkpoint: Checkpoint) -> str:
    said = {**how_used(checkpoint), **{f: json.dumps(value) for f, value in checkpoint.card.items()}}
    lines = [
        f"# {title}",
        "",
        f"A learned optimizer, architecture `{checkpoint.lopt.config['architecture']}`.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {field} | {value} |" for field, value in said.items()),
        "",
        "```python",
        *usage_lines(name, checkpoint),
        "```",
        "",
        "Not evaluated: run `python -m eval compare` on it and state the result here.",
        "",
    ]
    return FRONT_MATTER + "\n".join(lines)
