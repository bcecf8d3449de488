"""The blocks of drawn networks on sequences; their equations are in `layers`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.base import Params
from tasks.families.drawn.sequence.choices import Choices
from tasks.networks.normalization import standardised


def mean(h: Float[Array, "batch length width"]) -> Float[Array, "batch width"]:
    """The mean over positions."""
    return jnp.mean(h, axis=1)


def norm(h: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
    """Centred and divided by the root mean square, at each position."""
    return standardised(h, (2,), 1e-5)


def attention(c: Choices, p: Params, h: Array) -> Float[Array, "batch length width"]:
    """What attention adds to h, with the block's parameters `qkv`, `out` and, for attention alone, `scale`."""
    normed = norm(h) if c.normalised else h
    if c.normalised and c.network == "attention":
        normed = normed * p["scale"][None, None]
    qkv = (normed @ p["qkv"]).reshape(*h.shape[:2], 3, c.heads, c.width // c.heads)
    query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    seen = jnp.tril(jnp.ones((c.length, c.length), bool)) if c.causal else jnp.ones((c.length, c.length), bool)
    seen = seen[None, None]
    scores = jnp.einsum("bihd,bjhd->bhij", query, key) * (c.width // c.heads) ** -0.5
    weights = jax.nn.softmax(jnp.where(seen, scores, -1e9), axis=-1)
    return jnp.einsum("bhij,bjhd->bihd", weights, value).reshape(h.shape) @ p["out"]


def with_past(h: Array, dilation: int) -> Float[Array, "batch length three_widths"]:
    """Each position beside those `dilation` and twice as many before it, zeros before the first."""
    padded = jnp.pad(h, ((0, 0), (2 * dilation, 0), (0, 0)))
    length = h.shape[1]
    return jnp.concatenate([padded[:, i * dilation : i * dilation + length] for i in range(3)], axis=-1)


def gated(c: Choices, p: Params, h: Array) -> Float[Array, "batch length width"]:
    """What a gated linear recurrence adds to h, with the block's parameters `w`, `keep_b` and `out`."""
    normed = norm(h) if c.normalised else h
    new, keep, gate = jnp.split(normed @ p["w"], 3, axis=-1)
    keep = jax.nn.sigmoid(keep + p["keep_b"][None, None])

    def step(state, inputs):
        kept, added = inputs
        state = kept * state + added
        return state, state

    by_time = (jnp.swapaxes(keep, 0, 1), jnp.swapaxes((1 - keep) * new, 0, 1))
    states = jax.lax.scan(step, jnp.zeros_like(h[:, 0]), by_time)[1]
    return (jnp.swapaxes(states, 0, 1) * jax.nn.silu(gate)) @ p["out"]


def recurrence(params: Params, x: Array) -> Float[Array, "batch length width"]:
    """States of an Elman network, whose inputs x are [B, length, num_inputs]."""
    inputs = jnp.swapaxes(x @ params["input"] + params["bias"][None, None], 0, 1)

    def elman(h, given):
        h = jnp.tanh(given + h @ params["recurrent"])
        return h, h

    start = jnp.zeros((len(x), inputs.shape[-1]), inputs.dtype)
    states = jax.lax.scan(elman, start, inputs)[1]
    return jnp.swapaxes(states, 0, 1)
