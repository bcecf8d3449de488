"""What an exported optimizer says of its meta-training, taken from what was trained.

The local recipe decides what the workers of a loaded optimizer run, so it is part of the file; where the components of
a mixture ran different local optimizers there is no one recipe, and the card lists them. The card only documents.
"""

from typing import Any

from learned_opt.base import LearnedOptimizer
from learned_opt.names import parse
from learned_opt.optimizers import LOCAL_OPTIMIZERS
from meta_train.config import FREE_FIELDS, MetaTrainConfig, component_runs, to_json


def card_of(config: MetaTrainConfig, lopt: LearnedOptimizer) -> dict[str, Any]:
    """JSON values: tasks, K, H, B (a list of them where the components of a mixture differ), and every setting."""
    runs = component_runs(config)
    settings = to_json(config)
    for field in FREE_FIELDS:
        del settings[field]
    card: dict[str, Any] = {"task": " + ".join(runs)}
    for field in ("num_workers", "num_local_steps", "batch_size"):
        values = sorted({getattr(run, field) for run in runs.values()})
        card[field] = values if len(values) > 1 else values[0]
    if lopt.reads != "gradient" and local_recipe(config, lopt) is None:
        card["local_optimizers"] = {name: run.local_optimizer for name, run in runs.items()}
    return card | {"meta_train_config": settings}


def local_recipe(config: MetaTrainConfig, lopt: LearnedOptimizer) -> dict[str, Any] | None:
    """What the workers ran, {"name": ..., "learning_rate": ...}; None for an optimizer that reads gradients, for one
    that was trained with several local optimizers, and for a local optimizer that is not the library's."""
    references = {run.local_optimizer for run in component_runs(config).values()}
    recipes = [parse(reference) for reference in references]
    if lopt.reads == "gradient" or any(recipe != recipes[0] for recipe in recipes):
        return None
    name, arguments = recipes[0]
    return {"name": name, **arguments} if name in LOCAL_OPTIMIZERS else None
