"""Networks of the problems with a drawn objective, as functions of plain arrays.

    linear      x W + b                                  plain       h <- act(h W + b)
    batch_norm  h <- act(norm(h W) s + b), over the batch    layer_norm  the same over the units of an example
    residual    h <- h + act(h W + b) from the second layer on
    conv        3x3 convolutions of stride 2 over an image of 8x8, as products over patches
    tied        act(x W + b) W^T + c

and a linear map at the end. A network's parameters bear its name: a problem may have two.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tasks.base import Params
from tasks.families.drawn.objective.choices import Choices
from tasks.networks.normalization import standardised
from tasks.networks.patch_conv import patches_of
from tasks.networks.variants import ACTIVATIONS

Shapes = dict[str, tuple[int, ...]]

_EPSILON = 1e-5
_NORMALISED = {"batch_norm": 0, "layer_norm": 1}
"""The axis that statistics are taken over."""


def shapes_of(choices: Choices, name: str, inputs: int, outputs: int) -> Shapes:
    """Shapes of the parameters of the network `name`, in the order in which they are used."""
    c, shapes, size = choices, {}, inputs
    if c.network == "tied":
        return {f"{name}_w0": (inputs, c.width), f"{name}_b0": (c.width,), f"{name}_last_b": (inputs,)}
    if c.network == "conv":
        channels = 1
        for i in range(c.depth):
            shapes |= {f"{name}_w{i}": (9 * channels, c.width // 2), f"{name}_b{i}": (c.width // 2,)}
            channels = c.width // 2
        size = channels * (8 // 2**c.depth) ** 2
    else:
        for i in range(c.depth):
            shapes[f"{name}_w{i}"] = (size, c.width)
            if c.network in _NORMALISED:
                shapes[f"{name}_scale{i}"] = (c.width,)
            shapes[f"{name}_b{i}"] = (c.width,)
            size = c.width
    return shapes | {f"{name}_last_w": (size, outputs), f"{name}_last_b": (outputs,)}


def initial(choices: Choices, name: str, shape: tuple[int, ...], key: Key[Array, ""]) -> Float[Array, "..."]:
    """The initial parameter of a name, from `shapes_of`; matrices by their number of rows and the inputs' scale."""
    if len(shape) == 1:
        return jnp.full(shape, 1.0 if "scale" in name else 0.0)
    scale = choices.init_scale * shape[0] ** -0.5
    return scale * (choices.output_scale if "last" in name else 1.0) * jax.random.normal(key, shape)


def apply(choices: Choices, params: Params, name: str, x: Float[Array, "batch inputs"]) -> Float[Array, "batch out"]:
    """Outputs of the network `name`."""
    c, act = choices, ACTIVATIONS[choices.activation]

    def of(part: str) -> Array:
        leaf = params[f"{name}_{part}"]
        return leaf[None] if leaf.ndim == 1 else leaf

    if c.network == "tied":
        return act(x @ of("w0") + of("b0")) @ of("w0").T + of("last_b")
    h = x
    if c.network == "conv":
        h = x.reshape(len(x), 8, 8, 1)
        for i in range(c.depth):
            h = act(patches_of(h, 3, 2) @ of(f"w{i}") + of(f"b{i}")[None, None])
        h = h.reshape(len(x), -1)
    else:
        for i in range(c.depth):
            out = h @ of(f"w{i}")
            if c.network in _NORMALISED:
                out = standardised(out, (_NORMALISED[c.network],), _EPSILON) * of(f"scale{i}")
            out = act(out + of(f"b{i}"))
            h = h + out if c.network == "residual" and i else out
    return h @ of("last_w") + of("last_b")


def masked_apply(choices: Choices, params: Params, x: Float[Array, "batch inputs"]) -> Float[Array, "batch inputs"]:
    """Outputs of the plain network "net", each a function of the entries before it alone.

    Every unit has a degree, and reads those of a lower degree only, or of the same in hidden layers (MADE; Germain et
    al. 2015, arXiv 1502.03509).
    """
    c, act = choices, ACTIVATIONS[choices.activation]
    entries = jnp.arange(c.num_inputs, dtype=jnp.int32)
    units = jnp.arange(c.width, dtype=jnp.int32) * (c.num_inputs - 1) // c.width
    degrees, h = entries, x
    for i in range(c.depth):
        mask = (degrees[:, None] <= units[None]).astype(x.dtype)
        h = act(h @ (params[f"net_w{i}"] * mask) + params[f"net_b{i}"][None])
        degrees = units
    mask = (degrees[:, None] < entries[None]).astype(x.dtype)
    return h @ (params["net_last_w"] * mask) + params["net_last_b"][None]
