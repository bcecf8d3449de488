"""Published weights as an optimizer of this library, and its meta-parameters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.names import hint
from learned_opt.per_parameter.velo_features import BLOCK_SIZES
from learned_opt.published.arguments import our_arguments
from learned_opt.published.kinds import KINDS, build_optimizer, find_kind, published_names
from learned_opt.published.weight_file import read_arrays


def import_weights(
    kind: str,
    source: str | os.PathLike[str] | Mapping[str, Any],
    arguments: Mapping[str, Any] | None = None,
) -> tuple[LearnedOptimizer, Theta]:
    """Reads weights as their authors released them.

    Args:
      kind: the published optimizer: one of `learned_opt.published.kinds.KINDS`.
      source: a file (flax msgpack, safetensors or npz), or arrays by their published leaf names, flat
        ("rnn_params/linear/w") or nested.
      arguments: of the published constructor, by their published names, the learning rate included where the optimizer
        has one; those that only concern logging are ignored. Sizes that are not given are read off the weights,
        everything else that is not given is as in the released configuration.

    Returns:
      (lopt, theta): `lopt.transform(theta)` is the optax transform, `learned_opt.save` writes both as a checkpoint.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an unknown kind or argument, an unreadable file, weights that are not those of such an optimizer, or
        a source or arguments of another type.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: {hint(kind, KINDS)}")
    if not isinstance(source, str | os.PathLike | Mapping):
        raise ValueError(f"source={str(source)[:60]}: use the path of a file, or a dict of arrays by published name")
    if not isinstance(arguments, Mapping | None):
        raise ValueError(f"arguments={str(arguments)[:60]!r}: use a dict of published arguments, e.g. the parsed JSON")
    name = "source" if isinstance(source, Mapping) else os.fspath(source)
    arrays = read_arrays(source)
    given = dict(arguments or {})
    spec = find_kind(kind, given)
    chosen = our_arguments(kind, spec.arguments, given)
    lopt = _build(kind, spec, {**_sizes(spec, arrays), **chosen})
    leaves, treedef = jax.tree_util.tree_flatten_with_path(jax.eval_shape(lopt.init, jax.random.key(0)))
    shapes = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}
    theirs = {ours: published_names(spec, ours) for ours in shapes}
    _check_names(name, kind, arrays, [leaf for leaves in theirs.values() for leaf in leaves])
    theta = [_joined(name, kind, arrays, theirs[ours], shape) for ours, shape in shapes.items()]
    return lopt, treedef.unflatten(theta)


def _sizes(spec, arrays):
    try:
        sizes = spec.sizes({leaf: array.shape for leaf, array in arrays.items()})
    except (KeyError, IndexError):
        # A leaf is missing or flat: the comparison with what is expected says which.
        return {}
    return {size: number for size, number in sizes.items() if number > 0}


def _build(kind, spec, arguments):
    try:
        return build_optimizer(spec, arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{kind} cannot be built with these arguments: {error}") from None


def _check_names(name, kind, arrays, expected):
    for problem, found in (("lacks", set(expected) - set(arrays)), ("has an unknown", set(arrays) - set(expected))):
        if found:
            raise ValueError(f"{name}: {problem} leaf {min(found)!r}: these are not the weights of a {kind}")


def _joined(name, kind, arrays, leaves, shape):
    """Our leaf, from the published ones."""
    if len(leaves) == 1:
        shapes = [shape]
    else:
        shapes = [(*shape[:-2], rows, shape[-1]) for rows in BLOCK_SIZES]
    for leaf, expected in zip(leaves, shapes, strict=True):
        array = arrays[leaf]
        if array.shape != expected:
            raise ValueError(
                f"{name}: {leaf} has shape {array.shape}, this {kind} needs {expected}; give the arguments that it was "
                "trained with"
            )
        if array.dtype.kind != "f":
            raise ValueError(f"{name}: {leaf} is {array.dtype}, weights are float32")
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: {leaf} holds NaN or infinity")
    parts = [arrays[leaf].astype(np.float32) for leaf in leaves]
    return jnp.asarray(np.concatenate(parts, axis=-2) if len(parts) > 1 else parts[0])
