"""A hypernetwork: the weights of an image classifier are the output of another network, whose input is a
hyper-parameter.

The main network, an MLP with one hidden layer, classifies under label smoothing (Szegedy et al. 2016, arXiv
1512.00567) by eps = g / 2. Each example has its own g in [0, 1], and the hypernetwork h makes the main network's
weights from it, so that training finds one classifier for every amount of smoothing:

    plain:  weights = h(g; w)
    mip:    weights = weights_0 + h(E(g); w),   E(g) = [cos(pi g / 2), sin(pi g / 2)]

The magnitude-invariant parametrisation (MIP; Ortiz, Guttag & Dalca 2023, arXiv 2304.07645) has an input of constant
norm and trains weights_0 beside w. In the plain form the scale of the predicted weights, and of their gradients, is
proportional to g, as long as the biases of h are zero. h has LeakyReLU layers with weights drawn by fan-out, as there;
that the hyper-parameter is a label smoothing is this file's choice.

The metric `sensitivity` is the mean total-variation distance of the predictions for g = 0 and g = 1 on the same image:
0 where the main network ignores g, 1/2 - 1/(2 C) for C classes where it answers both with certainty.
"""

import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily, samples_nothing
from tasks.batches import sample_images, split_of, whole_split

Parametrisation = Literal["mip", "plain"]
MAX_SMOOTHING = 0.5


def encode_magnitude_invariant(g: Float[Array, "batch"]) -> Float[Array, "batch 2"]:
    """E(g) = [cos(pi g / 2), sin(pi g / 2)], of norm 1."""
    angle = g * (math.pi / 2)
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def smoothed_cross_entropy(
    logits: Float[Array, "batch classes"], targets: Float[Array, "batch classes"]
) -> Float[Array, "batch"]:
    """-sum_c target_c log softmax(logits)_c, in nats."""
    return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)


def smooth_labels(batch: Batch, num_classes: int) -> Float[Array, "batch classes"]:
    """(1 - eps) one_hot + eps / C with eps = `MAX_SMOOTHING` g, for each example's g."""
    smoothing = MAX_SMOOTHING * batch["g"][:, None]
    return (1 - smoothing) * jax.nn.one_hot(
        batch["label"], num_classes, dtype=smoothing.dtype
    ) + smoothing / num_classes


def predicted_weights(params: Params, g: Float[Array, "batch"]) -> Float[Array, "batch weights"]:
    """The main network's weights for each g, flat; MIP where `params` has `main_weights`."""
    magnitude_invariant = "main_weights" in params
    h = encode_magnitude_invariant(g) if magnitude_invariant else g[:, None]
    h = jax.nn.leaky_relu(h @ params["hyper_in"] + params["hyper_in_bias"][None])
    change = h @ params["hyper_out"] + params["hyper_out_bias"][None]
    return change + params["main_weights"][None] if magnitude_invariant else change


def main_logits(
    weights: Float[Array, "batch weights"], images: Float[Array, "batch *image"], hidden: int, num_classes: int
) -> Float[Array, "batch classes"]:
    """The main network of each example: pixels, `hidden` ReLU units, logits."""
    batch = images.shape[0]
    pixels = images.reshape(batch, -1)
    sizes = main_sizes(pixels.shape[1], hidden, num_classes)
    into, into_bias, out, out_bias = jnp.split(weights, np.cumsum(sizes)[:-1], axis=1)
    h = jax.nn.relu(jnp.einsum("bp,bph->bh", pixels, into.reshape(batch, -1, hidden)) + into_bias)
    return jnp.einsum("bh,bhc->bc", h, out.reshape(batch, hidden, num_classes)) + out_bias


def main_sizes(num_pixels: int, hidden: int, num_classes: int) -> tuple[int, ...]:
    """Sizes of the main network's tensors: weights and biases of both layers."""
    return num_pixels * hidden, hidden, hidden * num_classes, num_classes


def initial_params(
    key: Key[Array, ""], sizes: tuple[int, ...], hyper_hidden: int, parametrisation: Parametrisation
) -> Params:
    """The hypernetwork by fan-out (He et al. 2015, arXiv 1502.01852); `main_weights` LeCun normal with zero biases."""
    in_key, out_key, main_key = jax.random.split(key, 3)
    by_fan_out = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")
    num_inputs = {"mip": 2, "plain": 1}[parametrisation]
    params = {
        "hyper_in": by_fan_out(in_key, (num_inputs, hyper_hidden), jnp.float32),
        "hyper_in_bias": jnp.zeros(hyper_hidden, jnp.float32),
        "hyper_out": by_fan_out(out_key, (hyper_hidden, sum(sizes)), jnp.float32),
        "hyper_out_bias": jnp.zeros(sum(sizes), jnp.float32),
    }
    if parametrisation == "plain":
        return params
    num_into, hidden, num_out, num_classes = sizes
    noise = jax.random.normal(main_key, (num_into + num_out,), jnp.float32)
    into, out = noise[:num_into] * (hidden / num_into) ** 0.5, noise[num_into:] * hidden**-0.5
    biases = jnp.zeros(hidden, jnp.float32), jnp.zeros(num_classes, jnp.float32)
    return params | {"main_weights": jnp.concatenate([into, biases[0], out, biases[1]])}


def with_hyper_parameters(data: Data, seed: int = 0) -> Data:
    """`data` with a leaf `g` [N], uniform in [0, 1]."""
    rng = np.random.default_rng(seed)
    return {
        split: {**examples, "g": rng.uniform(0, 1, len(examples["label"])).astype(np.float32)}
        for split, examples in data.items()
    }


def hypernetwork(
    data: Data,
    parametrisation: Parametrisation = "mip",
    hidden: int = 16,
    hyper_hidden: int = 16,
    name: str = "hypernetwork",
    num_classes: int = 10,
) -> TaskFamily:
    """Classify the images of `data` under every amount of label smoothing at once.

    The uninformed loss is that of a uniform guess, ln C whatever the smoothing.

    Args:
      data: `{split: {"image": uint8[N, ...], "label": int32[N]}}`.
      parametrisation: "mip" or "plain".
      hidden: hidden units of the main network.
      hyper_hidden: hidden units of the hypernetwork.
      name: the family's name.
      num_classes: labels lie in [0, num_classes).

    Raises:
      ValueError: an unknown parametrisation, a width below 1, or fewer than two classes.
    """
    if parametrisation not in get_args(Parametrisation):
        raise ValueError(f"parametrisation={parametrisation!r}: use one of {', '.join(get_args(Parametrisation))}")
    if hidden < 1 or hyper_hidden < 1:
        raise ValueError(f"hidden={hidden}, hyper_hidden={hyper_hidden}: use at least 1")
    if num_classes < 2:
        raise ValueError(f"num_classes={num_classes}: use at least 2")

    def task(task_config: TaskConfig, data: Data) -> Task:
        del task_config
        num_pixels = math.prod(data["train"]["image"].shape[1:])

        def init(key: Key[Array, ""]) -> Params:
            return initial_params(key, main_sizes(num_pixels, hidden, num_classes), hyper_hidden, parametrisation)

        def logits_of(params: Params, batch: Batch, g: Float[Array, "batch"]) -> Float[Array, "batch classes"]:
            return main_logits(predicted_weights(params, g), batch["image"], hidden, num_classes)

        def loss(params: Params, key: Key[Array, ""], batch: Batch) -> Float[Array, ""]:
            del key
            logits = logits_of(params, batch, batch["g"])
            return jnp.mean(smoothed_cross_entropy(logits, smooth_labels(batch, num_classes)))

        def sample_batch(key: Key[Array, ""], split: str, batch_shape: tuple[int, ...]) -> Batch:
            image_key, g_key = jax.random.split(key)
            g = jax.random.uniform(g_key, batch_shape, jnp.float32)
            return sample_images(image_key, split_of(data, split), batch_shape) | {"g": g}

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            logits = logits_of(params, batch, batch["g"])
            hits = jnp.argmax(logits, axis=-1) == batch["label"]
            ends = [jax.nn.softmax(logits_of(params, batch, jnp.full_like(batch["g"], g))) for g in (0, 1)]
            return {
                "loss": jnp.mean(smoothed_cross_entropy(logits, smooth_labels(batch, num_classes))),
                "accuracy": jnp.mean(hits.astype(jnp.float32)),
                "sensitivity": jnp.mean(jnp.sum(jnp.abs(ends[1] - ends[0]), axis=-1)) / 2,
            }

        return Task(init, loss, sample_batch, metrics)

    def eval_batch(data: Data, split: str) -> Batch:
        return whole_split(data, split) | {"g": jnp.asarray(split_of(data, split)["g"])}

    return TaskFamily(name, with_hyper_parameters(data), samples_nothing, task, math.log(num_classes), eval_batch)
