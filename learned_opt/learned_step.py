"""A learned step as users train with it: at a learning rate, with weight decay, and with some tensors left to others.

    p <- p + lr_t (learned step - weight_decay p)

The decay is decoupled from the gradient, as AdamW's (Loshchilov & Hutter 2019, arXiv 1711.05101). AdamW's weight decay
is multiplied by a learning rate of about 1e-3; the learning rate here is a factor on a step that has its size already,
usually 1. What is called 0.1 at 1e-3 there is 1e-4 here.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.argument_checks import check_like, check_transform, explained_state, inside_multi_steps
from learned_opt.base import LearnedOptimizer, Params
from learned_opt.optimizers.learning_rate import LearningRate, check_learning_rate


def vectors_and(*words: str) -> Any:
    """A rule for `Others`: tensors of fewer than two axes, and those with one of the words in their path.

    Args:
      *words: e.g. "embed" for "params/embedding/table"; case is ignored.

    Returns:
      params -> tree of booleans.
    """

    def is_other(path, leaf):
        where = jax.tree_util.keystr(path, simple=True, separator="/").lower()
        return jnp.ndim(leaf) < 2 or any(word.lower() in where for word in words)

    return lambda params: jax.tree_util.tree_map_with_path(is_other, params)


class Others(NamedTuple):
    """Tensors that another optimizer trains, in place of the learned one.

    Attributes:
      optimizer: any optax transform, with a learning rate and a decay of its own: those of the learned step are not
        its. It is fed what the learned optimizer is fed. Beside one that reads gradients that is, for instance,
        `optax.adamw(1e-3)`. Beside a server optimizer it is a server optimizer too, fed pseudo-gradients once a round:
        `learned_opt.algorithms.server.fedavg()` takes the workers' average, so these tensors are trained by the local
        optimizer alone; `optax.adamw` would be FedAdam, whose rate is the size of a round's change.
      tensors: which, as a tree of booleans or a function params -> such a tree.
      reads: "gradient", or "mean" for a server optimizer; it must be what the learned optimizer is fed.
    """

    optimizer: optax.GradientTransformation
    tensors: Any = vectors_and()
    reads: Literal["gradient", "mean"] = "gradient"


def learned_step(
    lopt: LearnedOptimizer,
    step: optax.GradientTransformation,
    *,
    learning_rate: LearningRate = 1.0,
    weight_decay: float = 0.0,
    mask: Any = None,
    others: Others | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Wraps the transform of a learned optimizer; arguments as in `learned_opt.load`.

    With none of them the updates and the state are those of `step`, to the last bit. What its `update` is called with
    is checked either way. Gradients and pseudo-gradients look alike, and gradients fed to a server optimizer would
    train to nonsense; so where `lopt` reads pseudo-gradients the caller has to say that it has some: by
    `worker_updates=`, or by `pseudo_gradient=True`. The algorithms of this library do.

    Raises:
      ValueError: an argument that makes no sense; by `update`: no params, updates of other tensors than the params',
        gradients where pseudo-gradients are read, another number of workers, a state of another optimizer, a place
        inside `optax.MultiSteps` where every worker's pseudo-gradient is read.
    """
    check_learning_rate(learning_rate)
    weight_decay = _checked_decay(learning_rate, weight_decay, mask)
    step = _of_its_own_tensors(step)
    parts: list[optax.GradientTransformation] = [step]
    if weight_decay:
        parts.append(optax.add_decayed_weights(-weight_decay, _checked_mask(mask)))
    if callable(learning_rate):
        parts.append(optax.scale_by_schedule(learning_rate))
    elif isinstance(learning_rate, jax.Array):
        # In the dtype of the updates, which `optax.scale` would widen to that of the rate.
        parts.append(optax.scale_by_schedule(lambda count: learning_rate))
    elif learning_rate != 1:
        parts.append(optax.scale(learning_rate))
    whole = step if len(parts) == 1 else optax.chain(*parts)
    if others is not None:
        whole = _beside(others, whole, lopt)
    whole = optax.with_extra_args_support(whole)
    architecture = lopt.config["architecture"]

    def update(updates, state, params=None, *, worker_updates=None, pseudo_gradient=None, **extra: Any):
        if params is None:
            raise ValueError(
                f"params is None: call update(updates, state, params), {architecture} reads the parameters"
            )
        check_like(updates, params, "updates")
        if lopt.reads != "gradient":
            if worker_updates is None and (pseudo_gradient is None or pseudo_gradient is False):
                raise ValueError(
                    f"{architecture} reads pseudo-gradients (parameters before minus after the local steps), not "
                    "gradients: train with learned_opt.load_algorithm or learned_opt.load_local_updates; in a loop of "
                    "your own that has pseudo-gradients, pass update(..., pseudo_gradient=True)"
                )
            _check_workers(lopt, worker_updates, updates)
        if worker_updates is not None:
            extra["worker_updates"] = worker_updates
        with explained_state(state, whole.init, params, architecture):
            return whole.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(whole.init, update)


def _of_its_own_tensors(step):
    """Where the updates are masked, what `worker_mean` asks the workers for is of the same tensors: optax masks trees
    among the extra arguments, and a function is none."""
    step = optax.with_extra_args_support(step)

    def update(updates, state, params=None, *, worker_mean=None, **extra: Any):
        if worker_mean is not None:
            ask = worker_mean
            extra["worker_mean"] = lambda fn: ask(lambda everything: fn(_masked_like(updates, everything)))
        return step.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(step.init, update)


def _masked_like(masked, tree):
    def own(here, there):
        return here if isinstance(here, optax.MaskedNode) else there

    return jax.tree.map(own, masked, tree, is_leaf=lambda node: isinstance(node, optax.MaskedNode))


def _checked_decay(learning_rate, weight_decay, mask) -> float:
    number = weight_decay.item() if isinstance(weight_decay, np.number) else weight_decay
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 1:
        raise ValueError(f"weight_decay={weight_decay!r}: use a number from 0 to below 1, the share taken off a step")
    if isinstance(learning_rate, int | float) and learning_rate * number >= 1:
        raise ValueError(
            f"weight_decay={number} at learning_rate={learning_rate} takes off all of a parameter in a step: "
            "use a product below 1"
        )
    if mask is not None and not number:
        raise ValueError("mask says which tensors decay: use it with weight_decay above 0")
    return number


def _checked_mask(mask):
    """The mask, which is compared with the parameters where it is used."""

    def of(params: Params):
        flags = mask(params) if callable(mask) else mask
        _check_flags(flags, params, "mask")
        return flags

    return None if mask is None else of


def _check_flags(flags, params, name):
    """Refuses what is no True or False for every tensor, or for every branch, of `params`."""
    try:
        jax.tree.structure(flags).flatten_up_to(params)
    except (ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{name} is a tree of other structure than params ({reason}): give each tensor True or False"
        ) from None
    for path, flag in jax.tree_util.tree_leaves_with_path(flags):
        if not isinstance(flag, bool) and (getattr(flag, "dtype", None) != np.bool_ or jnp.shape(flag) != ()):
            where = jax.tree_util.keystr(path, simple=True, separator="/") or "all of it"
            raise ValueError(f"{name} has {str(flag)[:60]!r} at {where}: give each tensor True or False")


def _beside(others, whole, lopt):
    """The learned step and the other optimizer, each on its tensors."""
    if not isinstance(others, Others):
        raise ValueError(f"others={str(others)[:100]}: use learned_opt.Others(optimizer, tensors)")
    check_transform(others.optimizer, "others.optimizer")
    architecture = lopt.config["architecture"]
    if others.reads not in ("gradient", "mean") or (others.reads == "gradient") != (lopt.reads == "gradient"):
        fed, reads = ("gradients", "gradient") if lopt.reads == "gradient" else ("pseudo-gradients", "mean")
        example = "optax.adamw(1e-3)" if reads == "gradient" else "learned_opt.algorithms.server.fedavg()"
        raise ValueError(
            f"others.reads={others.reads!r}: beside {architecture} it is fed {fed}; use an optimizer for them, e.g. "
            f"Others({example}, reads={reads!r})"
        )

    def labels(params: Params):
        chosen = others.tensors(params) if callable(others.tensors) else others.tensors
        _check_flags(chosen, params, "others.tensors")
        flags = jax.tree.leaves(chosen)
        if flags and (all(flags) or not any(flags)):
            amount = "every tensor" if all(flags) else "no tensor"
            raise ValueError(f"others.tensors chooses {amount}: choose some, or use one optimizer alone")
        return jax.tree.map(lambda is_other: "others" if is_other else "learned", chosen)

    # `worker_updates` are cut down to an optimizer's own tensors as the updates are.
    transforms: Any = {"learned": whole, "others": others.optimizer}
    return optax.partition(transforms, labels, mask_compatible_extra_args=True)


def _check_workers(lopt, worker_updates, updates):
    architecture = lopt.config["architecture"]
    if lopt.reads != "workers":
        return
    if worker_updates is None:
        raise ValueError(
            f"worker_updates is None: {architecture} reads every worker's pseudo-gradient; keep gather=True, or pass "
            "update(..., worker_updates=tree with a leading [workers] axis)"
        )
    if inside_multi_steps():
        raise ValueError(
            "optax.MultiSteps averages updates, but of worker_updates it hands on those of its last call alone: use "
            "learned_opt.algorithms.accumulated.accumulated"
        )
    structure = jax.tree.structure(updates)
    if jax.tree.structure(worker_updates) != structure:
        raise ValueError(
            "worker_updates is a tree of other structure than updates: inside optax.masked or optax.partition, pass it "
            "mask_compatible_extra_args=True"
        )
    for leaf, update in zip(jax.tree.leaves(worker_updates), jax.tree.leaves(updates), strict=True):
        found, expected = jnp.shape(leaf), (lopt.num_workers, *jnp.shape(update))
        if found != expected:
            raise ValueError(
                f"worker_updates has a leaf of shape {found}, expected {expected}: this {architecture} is built for "
                f"num_workers={lopt.num_workers}; name the axis of all workers (axis_name), or use an optimizer for any"
            )
