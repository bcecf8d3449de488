"""How an optimizer is used, in words and in five lines of code: for the command line and for model cards."""

from __future__ import annotations

import json
from typing import Any

from learned_opt.architectures import ARCHITECTURES
from learned_opt.checkpoint.checkpoint import Checkpoint
from learned_opt.checkpoint.local_recipe import recipe_in_words

READS = {
    "gradient": "gradients",
    "mean": "mean pseudo-gradient",
    "workers": "every worker's pseudo-gradient",
    "statistics": "statistics of the workers' pseudo-gradients",
}
"""`LearnedOptimizer.reads` in words."""
LENGTH = 1_000
"""Updates of a training in examples, for optimizers that are told it."""
NOT_SAID = "not said in the file"


def how_used(checkpoint: Checkpoint) -> dict[str, str]:
    """What it reads, its local optimizer, its number of workers, and the K, H and batch it was meta-trained at."""
    lopt = checkpoint.lopt
    if lopt.reads == "gradient":
        local, workers = "none", "one machine"
    else:
        local = NOT_SAID if checkpoint.local_opt is None else recipe_in_words(checkpoint.local_opt)
        workers = "any number" if lopt.num_workers is None else f"{lopt.num_workers} only"
    return {
        "reads": READS[lopt.reads],
        "local optimizer": local,
        "workers": workers,
        "meta-trained at": _trained_at(checkpoint.card) or NOT_SAID,
    }


def needs_num_steps(checkpoint: Checkpoint) -> bool:
    """Whether it cannot be used without being told how long the training lasts."""
    try:
        checkpoint.transform()
    except ValueError:
        return True
    return False


def usage_lines(name: str, checkpoint: Checkpoint) -> list[str]:
    """Five lines of Python that take a step, given `params`, `loss_fn` and data.

    Args:
      name: what to load, a name or a path.
      checkpoint: of that name.
    """
    architecture, more = checkpoint.lopt.config["architecture"], ""
    if needs_num_steps(checkpoint):
        more += f", num_steps={LENGTH:_}"
    if architecture not in ARCHITECTURES:
        more += f", architectures={{{json.dumps(architecture)}: {architecture}}}"
    if checkpoint.lopt.reads == "gradient":
        return [
            f"tx = learned_opt.load({json.dumps(name)}{more})  # an optax transform, fed gradients",
            "opt_state = tx.init(params)",
            "loss, gradient = jax.value_and_grad(loss_fn)(params, key, batch)  # from here on in every step",
            "updates, opt_state = tx.update(gradient, opt_state, params, value=loss)",
            "params = optax.apply_updates(params, updates)",
        ]
    num_workers = checkpoint.lopt.num_workers or _whole(checkpoint.card.get("num_workers"), 8)
    num_local_steps = _whole(checkpoint.card.get("num_local_steps"), 4)
    source = json.dumps(name)
    call = f"load_algorithm({source}, num_workers={num_workers}, num_local_steps={num_local_steps}{more})"
    if checkpoint.local_opt is None:
        call = f"simulate(learned_opt.local_sgd(optax.sgd(0.1), learned_opt.load({source}{more})), {num_workers})"
    return [
        f"algorithm = learned_opt.{call}",
        "one_round = jax.jit(algorithm.round, static_argnums=0)",
        "state = algorithm.init(params)",
        f"state, info = one_round(loss_fn, state, key, batches)  # batches [{num_workers}, {num_local_steps}, B, ...]",
        "params = algorithm.params(state)  # loss_fn(params, key, batch) -> scalar",
    ]


def _trained_at(card: dict[str, Any]) -> str:
    """E.g. "K = 8; H = 1, 4, 16; batch 32"; where components have values of their own, or a search went over several,
    all of them, more than three as "1 to 32"."""
    settings = card.get("meta_train_config")
    listed = settings.get("components") if isinstance(settings, dict) else None
    components = [c for c in listed if isinstance(c, dict)] if isinstance(listed, list) else []
    parts = []
    for label, field in (("K = ", "num_workers"), ("H = ", "num_local_steps"), ("batch ", "batch_size")):
        values = [component.get(field) or card.get(field) for component in components or [card]]
        each = [number for value in values for number in (value if isinstance(value, list) else [value])]
        numbers = sorted({number for number in each if isinstance(number, int)})
        if numbers:
            several = ", ".join(map(str, numbers)) if len(numbers) <= 3 else f"{numbers[0]} to {numbers[-1]}"
            parts.append(label + several)
    return "; ".join(parts)


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and value > 0 else otherwise
