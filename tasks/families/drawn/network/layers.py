"""Networks whose kind of layer is drawn at random (`choices.LAYERS`), in one function.

    plain       h <- act(h W + b)                       residual    h <- h + act(norm(h W + b)) from the second layer on
    normalised  h <- act(norm(h W + b))                 gated       h <- act(h W + b) (h G + g)
    factorised  h <- act(h L R + b)                     repeated    plain, the second layer's W and b in all later ones
    attention   mean over one head's softmax attention of the inputs, then plain
    vectors     x . (u^2 - v^2) + shift, which has no matrices

and a linear map at the end; norm(h) is centred, divided by its root mean square and times a learned scale.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tasks.base import Params
from tasks.families.drawn.network.choices import Choices
from tasks.networks.variants import ACTIVATIONS

_ACTIVATIONS = ACTIVATIONS | {"sin": jnp.sin}


def shapes_of(choices: Choices) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters by name, in the order in which they are used."""
    c, width = choices, choices.width
    if c.layers == "vectors":
        one = {f"{kind}{i}": (c.num_inputs,) for kind in ("up", "down") for i in range(c.num_outputs)}
        return one | {"shift": (c.num_outputs,)}
    shapes: dict[str, tuple[int, ...]] = {}
    size = c.num_inputs
    if c.vocabulary:
        shapes["embedding"] = (c.vocabulary, 8)
        size = 8 * c.num_inputs
    if c.layers == "attention":
        size = 8 if c.vocabulary else 2
        shapes |= {f"attention_{n}": (size, width) for n in ("query", "key", "value")}
        size = width
    for i in range(c.depth):
        if c.layers == "repeated" and i > 1:
            continue
        if c.layers == "factorised":
            shapes |= {f"left{i}": (size, width // 2), f"right{i}": (width // 2, width)}
        else:
            shapes[f"w{i}"] = (size, width)
        shapes[f"b{i}"] = (width,)
        if c.layers == "gated":
            shapes |= {f"gate{i}": (size, width), f"gate_b{i}": (width,)}
        if c.layers in ("normalised", "residual"):
            shapes[f"scale{i}"] = (width,)
        size = width
    return shapes | {"last_w": (size, c.num_outputs), "last_b": (c.num_outputs,)}


def initial(choices: Choices, name: str, shape: tuple[int, ...], key: Key[Array, ""]) -> Float[Array, "..."]:
    """The initial parameter of a name, from `shapes_of`."""
    if choices.layers == "vectors" and name != "shift":
        return 0.3 * choices.init_scale * jnp.ones(shape) + 0.02 * jax.random.normal(key, shape)
    if len(shape) == 1:
        return jnp.full(shape, 1.0 if name.startswith("scale") else 0.0)
    scale = 0.3 if name == "embedding" else choices.init_scale * shape[0] ** -0.5
    return scale * (choices.output_scale if name == "last_w" else 1.0) * jax.random.normal(key, shape)


def answers_of(choices: Choices, params: Params, x: Array) -> Float[Array, "batch outputs"]:
    """Answers of the network, for inputs [B, num_inputs]."""
    c, act = choices, _ACTIVATIONS[choices.activation]
    if c.layers == "vectors":
        weights = [jnp.square(params[f"up{i}"]) - jnp.square(params[f"down{i}"]) for i in range(c.num_outputs)]
        return x @ jnp.stack(weights, axis=1) + params["shift"][None]
    parts = params["embedding"][x] if c.vocabulary else x
    h = parts.reshape(len(x), -1)
    if c.layers == "attention":
        # Of a vector, every entry and its place are a token.
        places = jnp.broadcast_to(jnp.linspace(-1, 1, c.num_inputs), x.shape)
        tokens = parts if c.vocabulary else jnp.stack([x, places], axis=-1)
        query, key, value = (tokens @ params[f"attention_{n}"] for n in ("query", "key", "value"))
        weights = jax.nn.softmax(jnp.einsum("bid,bjd->bij", query, key) * c.width**-0.5, axis=-1)
        h = jnp.mean(jnp.einsum("bij,bjd->bid", weights, value), axis=1)
    for i in range(c.depth):
        j = min(i, 1) if c.layers == "repeated" else i
        if c.layers == "factorised":
            out = h @ params[f"left{i}"] @ params[f"right{i}"] + params[f"b{i}"][None]
        else:
            out = h @ params[f"w{j}"] + params[f"b{j}"][None]
        if c.layers in ("normalised", "residual"):
            out = (out - jnp.mean(out, axis=1, keepdims=True)) * params[f"scale{i}"][None]
            out = out * jax.lax.rsqrt(jnp.mean(jnp.square(out), axis=1, keepdims=True) + 1e-5)
        out = act(out)
        if c.layers == "gated":
            out = out * (h @ params[f"gate{i}"] + params[f"gate_b{i}"][None])
        h = h + out if c.layers == "residual" and i else out
    return h @ params["last_w"] + params["last_b"][None]
