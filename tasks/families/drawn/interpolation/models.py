"""Models of drawn problems of interpolation (`choices.MODELS`), in one function.

    features     x W, of inputs that are features already
    deep_linear  x W_1 ... W_L
    homogeneous  relu(... relu(x W_1) ...) W_L
    diagonal     x (u^L - v^L), entry by entry
    normalised   act(x V / |V| g + b) ..., the columns of V divided by their norms, with gains g
    embeddings   sum of e_s r e_o (depth 2, DistMult: Yang et al. 2015, arXiv 1412.6575) or e_s R_r e_o (depth 3)
    first_layer  act(x W + b) a with fixed signs a
    convolution  mean over places of relu(filters * x), then W; places closed to a circle, depth 3 has two such layers
    experts      sum of softmax(x G + b)_i times expert i, which is linear (depth 2) or has a hidden layer (depth 3)
    maxout       max over the pieces of (x W_i + b_i), then W (Goodfellow et al. 2013, arXiv 1302.4389)

The size of the scores at the start is `init_scale`, in equal parts from all layers.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tasks.base import Params
from tasks.families.drawn.interpolation.choices import Choices
from tasks.networks.variants import ACTIVATIONS

_MOST_PLACES = 16


def shapes_of(choices: Choices, num_inputs: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters by name, for inputs of so many columns."""
    c, d, w, out = choices, num_inputs, choices.width, choices.num_outputs
    if c.model == "features":
        return {"w0": (d, out)}
    if c.model == "diagonal":
        return {"up": (d, out), "down": (d, out)}
    if c.model == "embeddings":
        n, m, k = c.num_inputs, c.num_classes, min(w, 24)
        return {"subject": (n, k), "relation": (m, k) if c.depth == 2 else (m, k, k), "object": (n, k)}
    if c.model == "first_layer":
        return {"w0": (d, w), "b0": (w,)}
    if c.model == "convolution":
        filters = w // 2
        one = {"w0": (c.pieces * (d // min(d, _MOST_PLACES)), filters)}
        two = {"w1": (c.pieces * filters, filters)} if c.depth == 3 else {}
        return one | two | {"last": (filters, out)}
    if c.model == "experts":
        gates = {"gate": (d, c.pieces), "gate_b": (c.pieces,)}
        if c.depth == 2:
            return gates | {"w0": (c.pieces, d, out), "b0": (c.pieces, out)}
        return gates | {"w0": (c.pieces, d, w // 4), "b0": (c.pieces, w // 4), "last": (c.pieces, w // 4, out)}
    # Units of maxout are fewer, as each has several pieces.
    sizes = [d] + (c.depth - 1) * [w // 3 if c.model == "maxout" else w]
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        if c.model == "maxout":
            shapes |= {f"w{i}": (c.pieces, a, b), f"b{i}": (c.pieces, b)}
        elif c.model == "normalised":
            shapes |= {f"w{i}": (a, b), f"gain{i}": (b,), f"b{i}": (b,)}
        else:
            shapes[f"w{i}"] = (a, b)
    return shapes | {"last": (sizes[-1], out)}


def initial(choices: Choices, name: str, shape: tuple[int, ...], key: Key[Array, ""]) -> Float[Array, "..."]:
    """The initial parameter of a name, from `shapes_of`."""
    c = choices
    normal = jax.random.normal(key, shape)
    # The first layer makes up for the scale of the inputs.
    first = 1 / c.input_scale if name in ("w0", "up", "down", "gate") else 1.0
    if c.model == "embeddings":
        size = shape[-1] ** (-1 / 6 if c.depth == 2 else -1 / 3)
        return c.init_scale ** (1 / 3) * size * normal
    if c.model == "diagonal":
        mean = (c.init_scale * first) ** (1 / c.depth) * c.num_inputs ** (-0.5 / c.depth)
        return mean * (1 + 0.2 * normal)
    if name.startswith("gain"):
        return jnp.full(shape, c.init_scale ** (1 / c.depth))
    if name.startswith("b") or name == "gate_b":
        return jnp.zeros(shape)
    if name == "gate":
        return first * shape[0] ** -0.5 * normal
    layers = {"features": 1, "first_layer": 1}.get(c.model, c.depth)
    if c.model == "experts":
        layers -= 1
    each = c.init_scale ** (1 / layers)
    if c.model in ("homogeneous", "convolution") and name != "last":
        each *= 2**0.5
    return each * first * shape[-2] ** -0.5 * normal


def scores_of(choices: Choices, params: Params, x: Array) -> Float[Array, "batch outputs"]:
    """Scores of the model, for inputs [B, columns]."""
    c, p = choices, params
    act = ACTIVATIONS[c.activation]
    if c.model == "features":
        return x @ p["w0"]
    if c.model == "diagonal":
        return x @ (p["up"] ** c.depth - p["down"] ** c.depth)
    if c.model == "embeddings":
        return _bilinear(c, p, x)
    if c.model == "first_layer":
        return act(x @ p["w0"] + p["b0"][None]) @ jnp.asarray(fixed_signs(c))
    if c.model == "convolution":
        places = min(x.shape[1], _MOST_PLACES)
        h = x.reshape(len(x), places, -1)
        for i in range(c.depth - 1):
            shifted = [jnp.roll(h, -shift, axis=1) for shift in range(c.pieces)]
            h = jax.nn.relu(jnp.concatenate(shifted, axis=-1) @ p[f"w{i}"])
        return jnp.mean(h, axis=1) @ p["last"]
    if c.model == "experts":
        gates = jax.nn.softmax(x @ p["gate"] + p["gate_b"][None], axis=-1)
        h = jnp.einsum("bd,edh->beh", x, p["w0"]) + p["b0"][None]
        if c.depth == 3:
            h = jnp.einsum("beh,eho->beo", act(h), p["last"])
        return jnp.einsum("be,beo->bo", gates, h)
    h = x
    for i in range(c.depth - 1):
        if c.model == "maxout":
            h = jnp.max(jnp.einsum("bd,edh->beh", h, p[f"w{i}"]) + p[f"b{i}"][None], axis=1)
        elif c.model == "normalised":
            norms = jnp.sqrt(jnp.sum(jnp.square(p[f"w{i}"]), axis=0) + 1e-12)
            h = act((h @ p[f"w{i}"]) * (p[f"gain{i}"] / norms)[None] + p[f"b{i}"][None])
        else:
            h = h @ p[f"w{i}"]
            h = jax.nn.relu(h) if c.model == "homogeneous" else h
    return h @ p["last"]


def fixed_signs(choices: Choices) -> Float[np.ndarray, "width outputs"]:
    """The last layer of "first_layer": as many pluses as minuses for every output, over the root of the width."""
    rng, width = np.random.default_rng(choices.width), choices.width
    signs = np.repeat(np.array([1.0, -1.0], np.float32), width // 2)
    return np.stack([rng.permutation(signs) for _ in range(choices.num_outputs)], axis=1) * np.float32(width**-0.5)


def _bilinear(c: Choices, p: Params, x: Array) -> Float[Array, "batch outputs"]:
    """Of triples, or of pairs with every object. Products with one-hot rows, whose gradients are dense arithmetic."""
    subject = jax.nn.one_hot(x[:, 0], c.num_inputs, dtype=p["subject"].dtype) @ p["subject"]
    relation = jax.nn.one_hot(x[:, 1], c.num_classes, dtype=p["relation"].dtype)
    if c.depth == 2:
        form = subject * (relation @ p["relation"])
    else:
        form = jnp.einsum("bk,br,rkl->bl", subject, relation, p["relation"])
    if c.loss == "softmax":
        return form @ p["object"].T
    chosen = jax.nn.one_hot(x[:, 2], c.num_inputs, dtype=p["object"].dtype) @ p["object"]
    return jnp.sum(form * chosen, axis=1, keepdims=True)
