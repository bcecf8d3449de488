"""The trees of parameters that an optimizer's update is measured on."""

from __future__ import annotations

from collections.abc import Callable

import jax

Shapes = dict[str, tuple[int, ...]]


def mlp_shapes() -> Shapes:
    """An MLP 784-128-10: 4 tensors, 0.1 million parameters."""
    return {"w0": (784, 128), "b0": (128,), "w1": (128, 10), "b1": (10,)}


def deep_mlp_shapes() -> Shapes:
    """An MLP 784-768-384-64-10: 8 tensors of 8 shapes, 0.9 million parameters."""
    sizes = (784, 768, 384, 64, 10)
    layers = list(zip(sizes[:-1], sizes[1:], strict=True))
    shapes: Shapes = {f"w{i}": layer for i, layer in enumerate(layers)}
    return shapes | {f"b{i}": layer[1:] for i, layer in enumerate(layers)}


def transformer_shapes() -> Shapes:
    """74 tensors, 10.1 million parameters: 6 blocks of width 352, a vocabulary of 2,750."""
    width = 352
    shapes: Shapes = {"embedding": (2750, width), "positions": (512, width)}
    block: Shapes = {
        **{name: (width, width) for name in ("query", "key", "value", "out")},
        **{name: (width,) for name in ("out_bias", "down_bias", "norm1", "norm1_bias", "norm2")},
        "up": (width, 4 * width),
        "up_bias": (4 * width,),
        "down": (4 * width, width),
    }
    for layer in range(6):
        shapes |= {f"block{layer}/{name}": shape for name, shape in block.items()}
    return shapes


TREES: dict[str, Callable[[], Shapes]] = {
    "mlp": mlp_shapes,
    "deep_mlp": deep_mlp_shapes,
    "transformer": transformer_shapes,
}


def random_tree(shapes: Shapes) -> dict[str, jax.Array]:
    """Normal numbers of standard deviation 0.1."""
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {name: 0.1 * jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items(), strict=True)}
