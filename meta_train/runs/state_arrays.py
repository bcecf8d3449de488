"""A state tree as a flat dict of named numpy arrays, and back.

Names are paths ("opt_state/0/mu/mlp/w0"), so a checkpoint can be read without this code. Typed
random keys are stored as their key data; dtypes that safetensors' numpy interface lacks (bfloat16,
float8) as the unsigned integers of their bits.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from meta_train.processes.distributed import place, to_host

_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32}


def to_arrays(state: PyTree) -> dict[str, np.ndarray]:
    """Copies every leaf to the host under its path; waits for the computation behind it.

    In a group of processes all must call it, and each receives the whole state.
    """
    return {name: _to_array(leaf) for name, leaf in _named_leaves(state)}


def from_arrays(arrays: dict[str, np.ndarray], template: PyTree) -> PyTree:
    """The tree of `template` with the stored values, each placed on the devices of its template
    leaf.

    Args:
      arrays: from `to_arrays`.
      template: a state of the same structure, such as a freshly initialised one.

    Raises:
      ValueError: names, shapes or dtypes differ: the code or the settings changed since it was
        written.
    """
    leaves = _named_leaves(template)
    names = {name for name, _ in leaves}
    for problem, found in (("lacks", names - arrays.keys()), ("also has", arrays.keys() - names)):
        if found:
            raise ValueError(
                f"the checkpoint {problem} {min(found)!r}; resume with the code it began with, or start another run "
                "from its optimizer.safetensors as --initial-theta"
            )
    restored = [_from_array(name, arrays[name], leaf) for name, leaf in leaves]
    return jax.tree.unflatten(jax.tree.structure(template), restored)


def _named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def _is_key(leaf: Any) -> bool:
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_array(leaf: Any) -> np.ndarray:
    array = to_host(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return array.view(_BITS[array.dtype.itemsize]) if array.dtype.kind == "V" else array


def _from_array(name: str, array: np.ndarray, leaf: Any) -> jax.Array:
    expected = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    dtype = np.dtype(expected.dtype)
    if dtype.kind == "V" and array.dtype == _BITS[dtype.itemsize]:
        array = array.view(dtype)
    if array.shape != expected.shape or array.dtype != dtype:
        raise ValueError(
            f"the checkpoint's {name} is {array.dtype}{list(array.shape)}, this run needs "
            f"{dtype}{list(expected.shape)}; resume with the code and config it began with"
        )
    value = jax.numpy.array(array)
    if _is_key(leaf):
        value = jax.random.wrap_key_data(value, impl=jax.random.key_impl(leaf))
    # A leaf that no device was chosen for must stay so: it goes where the others are.
    return place(value, leaf.sharding) if leaf.committed else value
