"""What a run finds in its folder when it is resumed: the newest good checkpoint, and settings that must be the same.

Bits depend on the settings, so none may change between two starts but those that decide nothing about the optimizer
(`FREE_FIELDS`), and the number of meta-steps, which extends a run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from meta_train.config import FREE_FIELDS, MetaTrainConfig, to_json
from meta_train.processes import distributed
from meta_train.runs import run_store
from meta_train.stored_config import config_from_values

EXTENDABLE = "meta_steps"


def newest_checkpoint(run_dir: Path, notify: Callable[[str], None]) -> run_store.StoredCheckpoint | None:
    """The newest good checkpoint, read and verified by every process for itself; None before the first one.

    Raises:
      ValueError: there are some, and none is intact.
    """
    found: list[run_store.StoredCheckpoint | None] = []

    def find() -> int:
        found.append(_newest_good(run_dir, notify))
        return found[0].step if found[0] else -1

    step = distributed.on_process_zero(find)
    if step < 0:
        return None
    return distributed.on_all_processes(lambda: found[0] if found else run_store.read_step(run_dir, step))


def _newest_good(run_dir: Path, notify: Callable[[str], None]) -> run_store.StoredCheckpoint | None:
    checkpoint, damages = run_store.newest_checkpoint(run_dir)
    if checkpoint is None and damages:
        reasons = "; ".join(f"{damage.folder.name}: {damage.reason}" for damage in damages)
        raise ValueError(f"{run_dir}: no checkpoint is intact ({reasons}); start again with another --run-dir")
    for damage in damages:
        notify(f"{damage.folder}: skipped and set aside, {damage.reason}")
    run_store.set_aside(damages)
    return checkpoint


def check_unchanged(config: MetaTrainConfig, at_checkpoint: dict[str, Any]) -> None:
    """ValueError where the settings are not those of the checkpoint, which may have been of fewer meta-steps."""
    # Through the configuration, so that fields younger than the checkpoint have their defaults.
    stored = to_json(config_from_values(at_checkpoint))
    if changed := _differences(stored, to_json(config), {*FREE_FIELDS, EXTENDABLE}):
        raise ValueError(
            f"{config.run_dir}/config.json: changed since the last checkpoint ({changed}); "
            "put the values back or start another run"
        )


def check_same(config: MetaTrainConfig, stored: MetaTrainConfig) -> None:
    """ValueError where the run in the folder has other settings than one that is about to be started there."""
    if changed := _differences(to_json(stored), to_json(config), set(FREE_FIELDS)):
        extends = config.meta_steps != stored.meta_steps
        advice = f"'resume {config.run_dir} --meta-steps {config.meta_steps}' extends it; else " if extends else ""
        raise ValueError(
            f"run_dir: {config.run_dir} holds a run with other settings ({changed}); {advice}"
            "choose another --run-dir or delete that folder"
        )


def _differences(old: dict[str, Any], new: dict[str, Any], free: set[str]) -> str:
    changed = [
        f"{name} {old.get(name)!r} -> {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if name not in free and old.get(name) != new.get(name)
    ]
    return ", ".join(changed)
