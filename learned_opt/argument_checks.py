"""Mistakes of a user's, each in one line, before anything is compiled.

What costs nothing is checked in advance. A state that another optimizer made is found out only after something has
failed on it: the check would have to build a state on every call.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import operator
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer, LocalAlgorithm, LossFn, Reads


def check_count(value: Any, name: str) -> int:
    """A whole number, at least 1.

    Raises:
      ValueError: anything else.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}={value!r}: use a whole number, at least 1") from None
    if number < 1:
        raise ValueError(f"{name}={number}: use at least 1")
    return number


def check_number(value: Any, name: str) -> None:
    """Refuses a schedule, or text, where a number is wanted; arrays and traced scalars pass.

    Raises:
      ValueError: naming it.
    """
    if callable(value) or isinstance(value, str):
        raise ValueError(f"{name}={getattr(value, '__name__', value)!r}: use a number")


def check_transform(value: Any, name: str) -> None:
    """Refuses what is no optax transform: a learning rate, a name, a class, an optimizer without its theta.

    Raises:
      ValueError: saying what to pass instead.
    """
    if callable(getattr(value, "init", None)) and callable(getattr(value, "update", None)):
        return
    if isinstance(value, str):
        advice = f"load it: learned_opt.load({value!r}), or learned_opt.make_local_optimizer for a hand-designed one"
    elif isinstance(value, int | float):
        advice = f"use an optax transform, e.g. optax.sgd({value!r})"
    elif callable(getattr(value, "transform", None)):
        advice = "use the transform that its method transform returns"
        value = type(value).__name__
    elif callable(value):
        advice = "call it first; use the optax transform that it returns"
        value = getattr(value, "__name__", value)
    else:
        advice = "use an optax transform"
    raise ValueError(f"{name}={str(value)[:100]}: {advice}")


def check_algorithm(value: Any, name: str) -> None:
    """Refuses what is no algorithm of one worker.

    Raises:
      ValueError: saying what to pass instead.
    """
    if isinstance(value, LocalAlgorithm):
        return
    if callable(getattr(value, "update", None)):
        advice = "is an optax transform: put it behind its workers, learned_opt.local_sgd(optax.sgd(0.1), server)"
    elif callable(value) and not isinstance(value, tuple):
        advice = "is a function: call it first; use the learned_opt.LocalAlgorithm that it returns"
    else:
        advice = f"is a {type(value).__name__}: use a learned_opt.LocalAlgorithm, as learned_opt.local_sgd returns"
    raise ValueError(f"{name} {advice}")


def check_learned_optimizer(value: Any, name: str) -> None:
    """Refuses what is no learned optimizer, and one that could not be saved or used as it says.

    Raises:
      ValueError: saying what of it to change.
    """
    if not isinstance(value, LearnedOptimizer):
        call = "call it first; " if callable(value) and not isinstance(value, tuple) else ""
        raise ValueError(f"{name}={str(value)[:60]}: {call}use a learned_opt.LearnedOptimizer")
    if not isinstance(value.config, dict) or not isinstance(value.config.get("architecture"), str):
        raise ValueError(
            f"{name}: its config is {value.config}: give it 'architecture', a name, beside the function's arguments"
        )
    try:
        json.dumps(value.config, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: its config is {value.config}: use numbers, text and lists ({error})") from None
    if value.reads not in typing.get_args(Reads):
        raise ValueError(f"{name}: reads={value.reads!r}: use one of {', '.join(typing.get_args(Reads))}")
    if not _takes(value.init, 1):
        raise ValueError(f"{name}: its init is called with a key: define it as init(key)")
    if not _takes(value.transform, 1, num_steps=None):
        raise ValueError(
            f"{name}: its transform is called with theta and num_steps=: define it as transform(theta, num_steps=None)"
        )


def check_callback(value: Any, name: str, arguments: str) -> None:
    """Refuses what cannot be called with as many arguments as `arguments` names, e.g. "step, row".

    Raises:
      ValueError: saying how it is called.
    """
    if not callable(value) or not _takes(value, 1 + arguments.count(",")):
        raise ValueError(f"{name}={str(value)[:60]}: use a function of ({arguments})")


def check_axis_name(value: Any) -> None:
    """Refuses what names no axis.

    Raises:
      ValueError: neither None nor a name or several.
    """
    names = value if isinstance(value, tuple | list) else [value]
    if value is not None and not (names and all(isinstance(name, str) for name in names)):
        raise ValueError(f"axis_name={value!r}: use the name of the axis whose members are the workers, or none")


def check_within_axis(axis_name: str | Sequence[str] | None) -> None:
    """Refuses a call from outside the named axis, for which JAX says that it is "unbound".

    Raises:
      ValueError: no such axis here.
    """
    if axis_name is None:
        return
    try:
        jax.lax.axis_size(axis_name)
    except NameError:
        raise ValueError(
            f"axis_name={axis_name!r}: there is no such axis where this is called: call it inside jax.shard_map over a "
            "mesh that has it, or jax.vmap(..., axis_name=...); leave axis_name out for a single worker"
        ) from None


def checked_loss(loss_fn: LossFn) -> LossFn:
    """The loss, with a clear error where it does not take (params, key, batch) or does not return a scalar."""

    def loss(params, key, batch):
        try:
            value = loss_fn(params, key, batch)
        except TypeError as error:
            if _takes(loss_fn, 3):
                raise
            raise ValueError(
                f"loss_fn is called with (params, key, batch), which {_name(loss_fn)} does not take: give it these "
                f"three arguments ({error})"
            ) from error
        if isinstance(value, tuple | list | dict):
            raise ValueError(
                f"loss_fn returns a {type(value).__name__}, not a scalar: return the loss alone, no auxiliary values"
            )
        if jnp.shape(value) != ():
            raise ValueError(f"loss_fn returns shape {jnp.shape(value)}, not a scalar: return the mean over the batch")
        if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            raise ValueError(f"loss_fn returns {jnp.result_type(value)}: return a floating-point number")
        return value

    return loss


def check_like(tree: Any, params: Any, name: str) -> None:
    """Refuses a tree of another structure, or with a tensor of another shape, than the parameters.

    Raises:
      ValueError: naming the first tensor that differs.
    """
    try:
        others = jax.tree.structure(tree).flatten_up_to(params)
    except (ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{name} and params are trees of other structure ({reason})") from None
    for (path, leaf), other in zip(jax.tree_util.tree_leaves_with_path(tree), others, strict=True):
        shape, expected = _shape(leaf), _shape(other)
        if shape != expected:
            where = jax.tree_util.keystr(path, simple=True, separator="/") or "the only tensor"
            raise ValueError(f"{name} has shape {shape} at {where}, params {expected}: pass those of one model")


@contextlib.contextmanager
def explained_state(state: Any, init: Callable[[Any], Any], params: Any, what: str) -> Iterator[None]:
    """Turns a failure into a clear one where `state` is not what `init(params)` makes.

    Raises:
      ValueError: the state is of another form; every other exception passes.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        try:
            expected = jax.eval_shape(init, params)
        except Exception:
            raise error from None
        if _form(state) == _form(expected):
            raise
        raise ValueError(
            f"the state given to {what} was made by another optimizer or for other parameters: use its own init"
        ) from error


def inside_multi_steps() -> bool:
    """Whether `optax.MultiSteps` is among the callers. What it hands on looks like anything else, so the stack is the
    only place that shows it; it is looked at where a step is traced."""
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), optax.MultiSteps):
            return True
        frame = frame.f_back
    return False


def _form(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [_shape(leaf) for leaf in leaves]


def _shape(leaf):
    try:
        return jnp.shape(leaf)
    except (TypeError, ValueError):
        return None


def _takes(function, num_arguments, **more):
    try:
        inspect.signature(function).bind(*range(num_arguments), **more)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _name(function):
    return getattr(function, "__name__", type(function).__name__)
