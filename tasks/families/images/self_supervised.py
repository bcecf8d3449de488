"""Self-supervised learning of image features without labels or negative pairs, with a measure of collapse.

Two augmented views a, b of an image pass through an encoder f, and a predictor p maps one view's features to the
other's:

    loss = 1 - (cos(p(f(a)), target(b)) + cos(p(f(b)), target(a))) / 2,   target without gradient

  online  target = f itself: SimSiam (Chen & He 2021, arXiv 2011.10566, whose loss is this less 1). It is also BYOL
          (Grill et al. 2020, arXiv 2006.07733, whose loss is twice this) with a target that has no momentum.
  random  target = a random network that is never trained, normalised over the batch as the output of the encoder in
          SimSiam: BYOL with momentum 1, the experiment from which that paper starts.

BYOL itself is not offered. Its target is a moving average of the parameters, kept by the training loop beside the
optimizer. A `Task` is stateless: its only state is `params`, which the optimizer moves as it likes, and a copy kept
there would be an average only under one optimizer's rule. The two forms above are the ends of BYOL's range that are
functions of the parameters alone. The target of `random` is part of the task's configuration, a new one in each task.

The hidden layers are normalised over the batch, both views together and without learned scale, so the loss is a
function of the whole batch; the outputs are not, unlike in SimSiam's encoder, so that collapse is possible.

Views: a shift by up to an eighth of the image, pixel noise, and a square cut out; all drawn from the row's own `seed`,
so that the batch determines the loss.

Metrics: `spread`, the standard deviation of l2-normalised features times sqrt(dim), 1 for directions spread evenly and
0 for collapse (Chen & He, section 4.1); `neighbour_accuracy`, the share of 256 images of the batch whose nearest other
image by cosine of the features f has the same label. Both are functions of the whole batch.
"""

from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_images, split_of, whole_split

Target = Literal["online", "random"]

UNINFORMED_LOSS = 1.0
"""Loss of a prediction that is uncorrelated with the target. A constant is as good only where the target is centred
(`random`); for `online` a constant encoder has loss 0, which is the collapse that `spread` shows."""

NOISE = 0.1
"""Standard deviation of the pixel noise."""

MAX_QUERIES = 256
EPSILON = 1e-5


class Encoder(nn.Module):
    """Images -> features [B, size]: one hidden layer, normalised over the batch, and a linear layer."""

    hidden: int
    size: int

    @nn.compact
    def __call__(self, images: Float[Array, "batch *image"]) -> Float[Array, "batch size"]:
        h = nn.Dense(self.hidden, use_bias=False)(images.reshape(images.shape[0], -1))
        return nn.Dense(self.size)(nn.relu(normalise_over_batch(h)))


class Predictor(nn.Module):
    """Features -> predicted features of the other view, through a bottleneck."""

    hidden: int
    size: int

    @nn.compact
    def __call__(self, features: Float[Array, "batch size"]) -> Float[Array, "batch size"]:
        h = nn.Dense(self.hidden, use_bias=False)(features)
        return nn.Dense(self.size)(nn.relu(normalise_over_batch(h)))


def normalise_over_batch(h: Float[Array, "batch size"]) -> Float[Array, "batch size"]:
    """Each column with mean 0 and variance 1."""
    centred = h - jnp.mean(h, axis=0, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=0, keepdims=True) + EPSILON)


def to_unit_norm(features: Float[Array, "batch size"]) -> Float[Array, "batch size"]:
    """Each row divided by its norm; a zero row stays zero."""
    return features * jax.lax.rsqrt(jnp.sum(features**2, axis=-1, keepdims=True) + EPSILON**2)


def negative_cosine(prediction: Float[Array, "batch size"], target: Float[Array, "batch size"]) -> Float[Array, ""]:
    """-mean cos(prediction, target)."""
    return -jnp.mean(jnp.sum(to_unit_norm(prediction) * to_unit_norm(target), axis=-1))


def spread(features: Float[Array, "batch size"]) -> Float[Array, ""]:
    """Standard deviation over the batch of each l2-normalised feature, averaged, times sqrt(size)."""
    return jnp.mean(jnp.std(to_unit_norm(features), axis=0)) * features.shape[-1] ** 0.5


def neighbour_accuracy(features: Float[Array, "batch size"], labels: Int[Array, "batch"]) -> Float[Array, ""]:
    """Share of rows (256 evenly spaced ones at most) whose nearest other row by cosine has their label."""
    n = features.shape[0]
    queries = jnp.asarray(np.linspace(0, n - 1, min(n, MAX_QUERIES)), jnp.int32)
    rows = to_unit_norm(features)
    itself = queries[:, None] == jnp.arange(n, dtype=jnp.int32)[None]
    similarity = jnp.where(itself, -jnp.inf, rows[queries] @ rows.T)
    hits = labels[jnp.argmax(similarity, axis=-1)] == labels[queries]
    return jnp.mean(hits.astype(jnp.float32))


def two_views(
    images: Float[Array, "batch height width channels"], seeds: UInt32[Array, "batch"]
) -> Float[Array, "..."]:
    """First views and second views [2 B, height, width, channels], each row's from its own seed."""
    batch, height, width, channels = images.shape
    num_pixels = height * width * channels

    def draw(seed: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.key(seed), (2, 4 + num_pixels), jnp.float32)

    uniform = jnp.swapaxes(jax.vmap(draw)(seeds), 0, 1).reshape(2 * batch, 4 + num_pixels)
    noise = (uniform[:, 4:] - 0.5) * (12**0.5 * NOISE)
    images = jnp.concatenate([images, images])
    shifted = jnp.einsum("nij,njwc->niwc", shift_matrix(uniform[:, 0], height).astype(images.dtype), images)
    shifted = jnp.einsum("nij,nhjc->nhic", shift_matrix(uniform[:, 1], width).astype(images.dtype), shifted)
    noisy = shifted + noise.reshape(images.shape).astype(images.dtype)
    cut = cut_interval(uniform[:, 2], height)[:, :, None] & cut_interval(uniform[:, 3], width)[:, None, :]
    return jnp.where(cut[..., None], 0, noisy)


def shift_matrix(uniform: Float[Array, "n"], size: int) -> Bool[Array, "n size size"]:
    """Moves pixels by a whole number in [-size/8, size/8]: row i reads column i - shift, or nothing past the edge."""
    most = size // 8
    shift = jnp.floor(uniform * (2 * most + 1)).astype(jnp.int32) - most
    place = jnp.arange(size, dtype=jnp.int32)
    return (place[:, None] - place[None])[None] == shift[:, None, None]


def cut_interval(uniform: Float[Array, "n"], size: int) -> Bool[Array, "n size"]:
    """A quarter of `size` pixels in a row, anywhere."""
    length = size // 4
    start = jnp.floor(uniform * (size - length + 1)).astype(jnp.int32)[:, None]
    place = jnp.arange(size, dtype=jnp.int32)[None]
    return (place >= start) & (place < start + length)


def with_seeds(data: Data, seed: int = 0) -> Data:
    """`data` with a leaf `seed` uint32 [N], from which the views of evaluation are drawn."""
    rng = np.random.default_rng(seed)
    return {
        split: {**examples, "seed": rng.integers(0, 2**32, len(examples["label"]), np.uint32)}
        for split, examples in data.items()
    }


def self_supervised(
    data: Data, target: Target = "online", hidden: int = 64, size: int = 32, name: str = "self_supervised"
) -> TaskFamily:
    """Learn features of the images of `data` without their labels, which only a metric reads.

    Args:
      data: `{split: {"image": uint8[N, height, width, channels], "label": int32[N]}}`.
      target: "online" or "random".
      hidden: hidden units of the encoder.
      size: number of features; the predictor's bottleneck has half as many.
      name: the family's name.

    Raises:
      ValueError: an unknown target, or too few units.
    """
    if target not in get_args(Target):
        raise ValueError(f"target={target!r}: use one of {', '.join(get_args(Target))}")
    if hidden < 1 or size < 2:
        raise ValueError(f"hidden={hidden}, size={size}: use hidden of at least 1 and size of at least 2")
    encoder, predictor = Encoder(hidden, size), Predictor(size // 2, size)
    image_shape = data["train"]["image"].shape[1:]

    def init_encoder(key: Key[Array, ""]) -> Params:
        return encoder.lazy_init(key, jax.ShapeDtypeStruct((1, *image_shape), "float32"))["params"]

    def encode(params: Params, images: Float[Array, "batch *image"]) -> Float[Array, "batch size"]:
        return encoder.apply({"params": params}, images)  # pyright: ignore[reportReturnType]

    def predict(params: Params, features: Float[Array, "batch size"]) -> Float[Array, "batch size"]:
        return predictor.apply({"params": params}, features)  # pyright: ignore[reportReturnType]

    def sample(key: Key[Array, ""]) -> TaskConfig:
        return {"target": init_encoder(key)} if target == "random" else {}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: Key[Array, ""]) -> Params:
            encoder_key, predictor_key = jax.random.split(key)
            features = jax.ShapeDtypeStruct((1, size), "float32")
            return {
                "encoder": init_encoder(encoder_key),
                "predictor": predictor.lazy_init(predictor_key, features)["params"],
            }

        def loss(params: Params, key: Key[Array, ""], batch: Batch) -> Float[Array, ""]:
            del key
            views = two_views(batch["image"], batch["seed"])
            features = encode(params["encoder"], views)
            prediction = predict(params["predictor"], features)
            if target == "online":
                aim = features
            else:
                random_encoder = jax.tree.map(lambda leaf: leaf.astype(views.dtype), task_config["target"])
                aim = normalise_over_batch(encode(random_encoder, views))
            other_view = jnp.roll(jax.lax.stop_gradient(aim), len(batch["seed"]), axis=0)
            return 1 + negative_cosine(prediction, other_view)

        def sample_batch(key: Key[Array, ""], split: str, batch_shape: tuple[int, ...]) -> Batch:
            image_key, seed_key = jax.random.split(key)
            seed = jax.random.bits(seed_key, batch_shape, jnp.uint32)
            return sample_images(image_key, split_of(data, split), batch_shape) | {"seed": seed}

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            features = encode(params["encoder"], batch["image"])
            return {
                "loss": loss(params, jax.random.key(0), batch),
                "spread": spread(features),
                "neighbour_accuracy": neighbour_accuracy(features, batch["label"]),
            }

        return Task(init, loss, sample_batch, metrics)

    def eval_batch(data: Data, split: str) -> Batch:
        return whole_split(data, split) | {"seed": jnp.asarray(split_of(data, split)["seed"])}

    return TaskFamily(name, with_seeds(data), sample, task, UNINFORMED_LOSS, eval_batch)
