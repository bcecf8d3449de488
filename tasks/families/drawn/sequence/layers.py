"""Networks on sequences whose kind is drawn at random (`choices.NETWORKS`), in one function.

With x_t [num_inputs] the input of a position, tokens as unit vectors:

    transformer   h <- h + softmax attention(norm(h)),   h <- h + W_2 act(W_1 norm(h) + b);   h_0 = x E + positions
    attention     the first of the two alone
    elman         h <- tanh(x U + h W + b)
    gated         s_t = a_t s_{t-1} + (1 - a_t) h_t U,   a = sigmoid(h A + b),   h <- h + (s silu(h G)) O
    convolution   h_t <- h_t + act(h_{t-2d} W_1 + h_{t-d} W_2 + h_t W_3 + b),   d = 1, 3
    concatenated  act-layers on the x_t E side by side
    mean          act-layers on the mean over t of act(x_t E + positions)

and a linear map of the last position, the mean of positions, or the last `num_answers` ones; the last two networks have
one vector for all answers. Attention: Vaswani et al. 2017, arXiv 1706.03762; gated recurrences: Martin & Cundy 2018,
arXiv 1709.04057.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tasks.base import Params
from tasks.families.drawn.sequence.blocks import attention, gated, mean, norm, recurrence, with_past
from tasks.families.drawn.sequence.choices import ATTENTION, Choices
from tasks.networks.variants import ACTIVATIONS

_DILATIONS = (1, 3)
_EMBEDDING = 6
"""Numbers of each position where positions stand side by side."""


def shapes_of(choices: Choices) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters by name, at most 14 of them."""
    c, width = choices, choices.width
    inputs, outputs = c.num_inputs, c.num_outputs
    shapes: dict[str, tuple[int, ...]] = {}
    if c.network == "elman":
        shapes = {"input": (inputs, width), "recurrent": (width, width), "bias": (width,)}
    elif c.network in ("concatenated", "mean"):
        size = _EMBEDDING if c.network == "concatenated" else width
        shapes = {"embedding": (inputs, size)}
        if c.network == "mean":
            shapes["positions"] = (c.length, width)
        size *= c.length if c.network == "concatenated" else 1
        for i in range(c.depth):
            shapes |= {f"w{i}": (size, width), f"b{i}": (width,)}
            size = width
        outputs *= c.num_answers
    else:
        shapes = {"embedding": (inputs, width)}
        if c.network in ATTENTION:
            shapes["positions"] = (c.length, width)
        for i in range(c.depth):
            shapes |= {f"{name}{i}": shape for name, shape in _block(c).items()}
    return shapes | {"last_w": (width, outputs), "last_b": (outputs,)}


def _block(c: Choices) -> dict[str, tuple[int, ...]]:
    width = c.width
    if c.network == "convolution":
        return {"w": (3 * width, width), "b": (width,)}
    if c.network == "gated":
        return {"w": (width, 3 * width), "keep_b": (width,), "out": (width, width)}
    shapes: dict[str, tuple[int, ...]] = {"qkv": (width, 3 * width), "out": (width, width)}
    if c.network != "attention":
        shapes |= {"up": (width, width), "up_b": (width,), "down": (width, width)}
    if c.normalised:
        # One vector a block in place of another, lest there be more than 14.
        shapes.pop("up_b", None)
        shapes["scale"] = (width,)
    return shapes


def initial(choices: Choices, name: str, shape: tuple[int, ...], key: Key[Array, ""]) -> Float[Array, "..."]:
    """The initial parameter of a name, from `shapes_of`."""
    if len(shape) == 1:
        # Gates begin open to the past.
        return jnp.full(shape, 1.0 if name.startswith(("scale", "keep_b")) else 0.0)
    if name == "positions":
        return 0.5 * choices.init_scale * jax.random.normal(key, shape)
    # A token has one entry of 1 only, or two.
    one_hot = name in ("embedding", "input") and choices.kind not in ("neighbours", "curve")
    scale = choices.init_scale * (1.0 if one_hot else shape[0] ** -0.5)
    if name == "last_w":
        scale *= choices.output_scale
    return scale * jax.random.normal(key, shape)


def answers_of(choices: Choices, params: Params, x: Array) -> Float[Array, "batch answers outputs"]:
    """Answers of the network, for inputs [B, length, fields] of tokens or [B, length, num_inputs] of numbers."""
    c, act = choices, ACTIVATIONS[choices.activation]
    if jnp.issubdtype(x.dtype, jnp.integer):
        dtype = params["last_w"].dtype
        # A product with unit vectors: its gradient is one, too, while that of indexing is a slow scatter.
        x = jnp.sum(jax.nn.one_hot(x, c.num_inputs, dtype=dtype), axis=-2)
    if c.network in ("concatenated", "mean"):
        h = x @ params["embedding"]
        h = h.reshape(len(h), -1) if c.network == "concatenated" else mean(act(h + params["positions"][None]))
        for i in range(c.depth):
            h = act(h @ params[f"w{i}"] + params[f"b{i}"][None])
        h = h @ params["last_w"] + params["last_b"][None]
        return h.reshape(len(h), c.num_answers, c.num_outputs)
    if c.network == "elman":
        h = recurrence(params, x)
    else:
        h = x @ params["embedding"]
        if c.network in ATTENTION:
            h = h + params["positions"][None]
        for i in range(c.depth):
            p = {name: params[f"{name}{i}"] for name in _block(c)}
            if c.network == "convolution":
                h = h + act(with_past(h, _DILATIONS[i]) @ p["w"] + p["b"][None, None])
            elif c.network == "gated":
                h = h + gated(c, p, h)
            else:
                h = h + attention(c, p, h)
                if c.network != "attention":
                    up = (norm(h) * p["scale"][None, None] if c.normalised else h) @ p["up"]
                    h = h + act(up if c.normalised else up + p["up_b"][None, None]) @ p["down"]
    h = mean(h)[:, None] if c.pooled else h[:, -c.num_answers :]
    return h @ params["last_w"] + params["last_b"][None, None]
