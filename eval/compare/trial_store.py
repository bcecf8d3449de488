"""Tuning trials on disk while a comparison runs, so that an interruption does not lose them.

A store's file is named by its key: the SHA-256 of the programs that train and score, of everything they are given and
of what runs them.
Equal keys give equal bits, so what is read back is what would have been computed; anything that changes (the code of an
optimizer, the data, JAX, the device) changes the key and starts anew.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jaxlib.version
import numpy as np

from eval.compare.grids import Setting
from eval.versioned_json import JsonFormat

FORMAT = JsonFormat("store of a tuning", 1, "the comparison")


class Trial(NamedTuple):
    """One setting and its score: the mean inner-validation loss, inf if a run diverged."""

    hparams: Setting
    loss: float


class TrialStore(NamedTuple):
    """Where trials are kept.

    Attributes:
      load: () -> (trials in the order they were run, seconds they took).
      save: (all trials so far, seconds they took) replaces what was kept.
    """

    load: Callable[[], tuple[list[Trial], float]]
    save: Callable[[Sequence[Trial], float], None]


NOT_STORED = TrialStore(lambda: ([], 0.0), lambda trials, seconds: None)


def trial_store(folder: Path, fingerprint: str, inputs: Any) -> TrialStore:
    """The store of one contender's tuning; its folder is made when something is kept.

    Args:
      folder: of the comparison.
      fingerprint: of the programs that train and score.
      inputs: tree of all arrays they are given.
    """
    device = jax.devices()[0]
    versions = (jax.__version__, jaxlib.version.__version__, device.platform, device.device_kind)
    key = hashlib.sha256("\n".join((fingerprint, digest(inputs), *versions)).encode()).hexdigest()
    path = folder / f"{key[:32]}.json"

    def load() -> tuple[list[Trial], float]:
        try:
            document = FORMAT.read(path)
        except FileNotFoundError:
            return [], 0.0
        trials = document["trials"]
        return [Trial(t["hparams"], np.inf if t["loss"] is None else t["loss"]) for t in trials], document["seconds"]

    def save(trials: Sequence[Trial], seconds: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        FORMAT.write(path, {"seconds": seconds, "trials": list(map(trial_record, trials))})

    return TrialStore(load, save)


def trial_record(trial: Trial) -> dict[str, Any]:
    """A trial as JSON values; a diverged one has loss null."""
    return {"hparams": trial.hparams, "loss": trial.loss if np.isfinite(trial.loss) else None}


def setting_key(hparams: Mapping[str, float]) -> tuple[float, ...]:
    """What tells the settings of one grid apart."""
    return tuple(hparams.values())


def digest(tree: Any) -> str:
    """SHA-256 of all arrays of a tree, their places, dtypes and shapes."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()
