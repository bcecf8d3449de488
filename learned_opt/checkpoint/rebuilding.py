"""From a file's config and tensors back to an optimizer and its theta, whatever the file asks for.

A config is numbers and names that go to a function of the table of architectures, and a hostile one may ask for a
billion layers. Memory is never spent on it: theta's shapes are computed abstractly and must be those of the tensors
that the file holds. Time is bounded beforehand, without knowing the architecture: what an integer counts is either a
length of some tensor, which costs nothing to trace, or a number of parts, each of which has tensors. So integers larger
than the file's number of tensors are first replaced by one that is little larger; if theta then has more tensors than
the file, no further step is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from learned_opt.architectures import from_config
from learned_opt.base import LearnedOptimizer, Theta

MOST_TENSORS = 4096
LARGEST_INTEGER = 10**6
LONGEST_LIST = 1024

Architectures = Mapping[str, Callable[..., LearnedOptimizer]]


def rebuild(
    name: str, config: dict[str, Any], tensors: dict[str, np.ndarray], architectures: Architectures | None = None
) -> tuple[LearnedOptimizer, Theta]:
    """The optimizer that a config describes, and theta in the tree that its `init` returns.

    Args:
      name: of the file, for errors.
      config: of the architecture.
      tensors: by their path in theta.
      architectures: further architectures by name, beside the library's.

    Raises:
      ValueError: an unknown architecture, a config that cannot be built or asks for more than the file holds, other
        tensors than theta has, or one that is not finite.
    """
    if len(tensors) > MOST_TENSORS:
        raise ValueError(f"{name}: {len(tensors)} tensors, at most {MOST_TENSORS} are read")
    _check_extent(name, config)
    reduced = _reduced(config, len(tensors))
    if reduced != config and len(jax.tree.leaves(_shapes(name, _build(name, reduced, architectures)))) > len(tensors):
        raise ValueError(f"{name}: config {_short(config)} needs more tensors than the file's {len(tensors)}")
    lopt = _build(name, config, architectures)
    shapes = check_tensors(name, tensors, lopt)
    leaves = [tensors[key] for key in named_leaves(shapes)]
    return lopt, jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def check_tensors(name: str, tensors: dict[str, np.ndarray], lopt: LearnedOptimizer) -> Theta:
    """Checks names, shapes, dtypes and values; returns theta's tree of shapes.

    Raises:
      ValueError: naming the first tensor that does not fit.
    """
    architecture = str(lopt.config.get("architecture"))[:100]
    shapes = _shapes(name, lopt)
    expected = named_leaves(shapes)
    for problem, keys in (
        ("lacks tensor", expected.keys() - tensors.keys()),
        ("has an unknown tensor", tensors.keys() - expected.keys()),
    ):
        if keys:
            raise ValueError(f"{name}: {problem} {min(keys)!r}; theta is not of a {architecture}")
    for key, leaf in expected.items():
        found = tensors[key]
        if found.shape != leaf.shape:
            raise ValueError(
                f"{name}: {key} has shape {found.shape}, {architecture} with config {_short(lopt.config)} "
                f"needs {leaf.shape}; use the config it was trained with"
            )
        if found.dtype != leaf.dtype:
            raise ValueError(f"{name}: {key} is {found.dtype}; cast it to {leaf.dtype}")
        if not np.isfinite(found).all():
            raise ValueError(f"{name}: {key} holds NaN or infinity; use an earlier checkpoint")
    return shapes


def named_leaves(tree: Any) -> dict[str, Any]:
    """Leaves by their path, "mlp/w0"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _build(name, config, architectures):
    try:
        return from_config(config, architectures)
    except ValueError as error:
        # Its config is quoted in it, and may be as long as a hostile file likes.
        raise ValueError(f"{name}: cannot rebuild its optimizer: {str(error)[:500]}") from None


def _shapes(name, lopt):
    try:
        return jax.eval_shape(lopt.init, jax.random.key(0))
    except (TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{name}: config {_short(lopt.config)} cannot be built: {reason}") from None


def _check_extent(name, value, field="config"):
    """Refuses integers and lists beyond what any learned optimizer has."""
    if isinstance(value, dict | list):
        if len(value) > LONGEST_LIST:
            raise ValueError(f"{name}: {field[:100]} has {len(value)} entries, at most {LONGEST_LIST} are read")
        entries = value.items() if isinstance(value, dict) else ((field, entry) for entry in value)
        for key, entry in entries:
            _check_extent(name, entry, str(key))
    elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise ValueError(f"{name}: {field[:100]} is an integer beyond {LARGEST_INTEGER}")


def _reduced(value, num_tensors):
    """With every integer above the number of tensors replaced by the next power of two, which most divisors divide."""
    if isinstance(value, dict):
        return {key: _reduced(entry, num_tensors) for key, entry in value.items()}
    if isinstance(value, list):
        return [_reduced(entry, num_tensors) for entry in value]
    if isinstance(value, int) and not isinstance(value, bool) and value > num_tensors:
        return min(value, 2 ** num_tensors.bit_length())
    return value


def _short(value):
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."
