"""Self-supervised learning of image features without labels or negative pairs, with a measure of collapse.

Two augmented views a, b of an image pass through an encoder f, and a predictor p maps one view's features to the
other's:

    loss = 1 - (cos(p(f(a)), target(b)) + cos(p(f(b)), target(a))) / 2,   target without gradient

  online  target = f itself: SimSiam (Chen & He 2021, arXiv 2011.10566, whose loss is this less 1). It is also BYOL
          (Grill et al. 2020, arXiv 2006.07733, whose loss is twice this) with a target that has no momentum.
  random  target = a random network that is never trained, normalised over the batch as the output of the encoder in
          SimSiam: BYOL with momentum 1, the experiment from which that paper starts. A new one in each task, in its
          configuration.
  slow    target = a second encoder xi among the parameters, started independently of f, that is drawn after it: its
          gradient is TETHER (xi - f's parameters), which the loss's value does not contain.
  free    target = f itself with its gradient: SimSiam without its stop-gradient, which collapses.

`slow` is BYOL in the form that a stateless task allows. BYOL's target is a moving average of the parameters, kept by
the training loop beside the optimizer. A `Task` has no state but `params`, which the optimizer moves as it likes: with
gradient descent at learning rate lr the tether makes xi exactly that average, with momentum 1 - TETHER lr; with any
other optimizer xi follows by that one's rule.

The predictor is a trained network with a bottleneck, or, as `eigen`, made from the features F = E[f f^T] = U S U^T:

    p(f) = U diag(sqrt(s / max s) + 0.01) U^T f,   without gradient

DirectPred (Tian, Chen & Ganguli 2021, arXiv 2102.06810). There F is a moving average over steps, here that of the
batch, both views together, for the same lack of state.

The hidden layers are normalised over the batch, both views together and without learned scale, so the loss is a
function of the whole batch; the outputs are not, unlike in SimSiam's encoder, so that collapse is possible.

Views: a shift by up to an eighth of the image, pixel noise, and a square cut out; all drawn from the row's own `seed`,
so that the batch determines the loss.

Metrics: `spread`, the standard deviation of l2-normalised features times sqrt(dim), 1 for directions spread evenly and
0 for collapse (Chen & He, section 4.1); `neighbour_accuracy`, the share of 256 images of the batch whose nearest other
image by cosine of the features f has the same label. Both are functions of the whole batch.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily, samples_nothing
from tasks.batches import sample_images, split_of, whole_split
from tasks.networks.normalization import standardised

Target = Literal["online", "random", "slow", "free"]
PredictorKind = Literal["trained", "eigen"]

UNINFORMED_LOSS = 1.0
"""Loss of a prediction that is uncorrelated with the target. A constant is as good only where the target is centred
(`random`); for the others a constant encoder has loss 0, which is the collapse that `spread` shows."""

TETHER = 0.1
"""How fast a slow target follows: momentum 1 - TETHER lr under gradient descent, 0.99 at lr 0.1."""

EIGEN_EPSILON = 0.01
"""Added to the eigenvalues of the `eigen` predictor, so that no direction is forgotten; as published."""

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


def eigen_predictor(features: Float[Array, "batch size"]) -> Float[Array, "size size"]:
    """U diag(sqrt(s / max s) + 0.01) U^T of the features' second moments F = U diag(s) U^T, symmetric.

    The root of F by Newton-Schulz iteration (Higham 2008, "Functions of Matrices", section 6.3) and its largest
    eigenvalue from powers of F: products alone, as LAPACK's eigenvectors for many workers at once may block the devices
    of a CPU. After 16 iterations eigenvalues above 1e-5 of the trace have converged, without those of rounding errors
    having grown; what is smaller counts for less than the 0.01.
    """
    identity = jnp.eye(features.shape[1], dtype=features.dtype)
    # Features that are all zero have no direction, and a predictor of 0.01.
    tiny = jnp.finfo(features.dtype).tiny
    second = features.T @ features
    second = second / jnp.maximum(jnp.trace(second), tiny)

    def square(_: Any, power: jax.Array) -> jax.Array:
        power = power @ power
        return power / jnp.maximum(jnp.trace(power), tiny)

    def iterate(_: Any, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        root, inverse = pair
        factor = 1.5 * identity - 0.5 * (inverse @ root)
        return root @ factor, factor @ inverse

    largest = jnp.sum(second * jax.lax.fori_loop(0, 8, square, second))
    root, _ = jax.lax.fori_loop(0, 16, iterate, (second, identity))
    return root * jax.lax.rsqrt(jnp.maximum(largest, tiny)) + EIGEN_EPSILON * identity


def tether(target: Params, online: Params) -> Float[Array, ""]:
    """A zero whose gradient with respect to `target` is TETHER (target - online)."""
    distances = jax.tree.map(lambda xi, w: jnp.sum((xi - jax.lax.stop_gradient(w)) ** 2), target, online)
    half = 0.5 * TETHER * jnp.sum(jnp.stack(jax.tree.leaves(distances)))
    return half - jax.lax.stop_gradient(half)


def normalise_over_batch(h: Float[Array, "batch size"]) -> Float[Array, "batch size"]:
    """Each column with mean 0 and variance 1."""
    return standardised(h, (0,), EPSILON)


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


def sample_with_seeds(key: Key[Array, ""], data: Data, split: str, batch_shape: tuple[int, ...]) -> Batch:
    """Images with fresh seeds, leaves [*batch_shape, ...]."""
    image_key, seed_key = jax.random.split(key)
    seed = jax.random.bits(seed_key, batch_shape, jnp.uint32)
    return sample_images(image_key, split_of(data, split), batch_shape) | {"seed": seed}


def whole_with_seeds(data: Data, split: str) -> Batch:
    """A whole split of `with_seeds` as one batch."""
    return whole_split(data, split) | {"seed": jnp.asarray(split_of(data, split)["seed"])}


def feature_metrics(features: Float[Array, "batch size"], labels: Int[Array, "batch"]) -> dict[str, Float[Array, ""]]:
    """`spread` and `neighbour_accuracy`."""
    return {"spread": spread(features), "neighbour_accuracy": neighbour_accuracy(features, labels)}


def two_view_family(
    data: Data,
    encoder: nn.Module,
    loss_of_features: Callable[[Float[Array, "batch size"], Float[Array, "batch size"]], Float[Array, ""]],
    name: str,
    uninformed_loss: float,
) -> TaskFamily:
    """A family whose loss is a function of the encoder's features of both views, each [B, size], alone."""
    image_shape = data["train"]["image"].shape[1:]

    def task(task_config: TaskConfig, data: Data) -> Task:
        del task_config

        def init(key: Key[Array, ""]) -> Params:
            return encoder.lazy_init(key, jax.ShapeDtypeStruct((1, *image_shape), "float32"))["params"]

        def encode(params: Params, images: Float[Array, "batch *image"]) -> Float[Array, "batch size"]:
            return encoder.apply({"params": params}, images)  # pyright: ignore[reportReturnType]

        def loss(params: Params, key: Key[Array, ""], batch: Batch) -> Float[Array, ""]:
            del key
            first, second = jnp.split(encode(params, two_views(batch["image"], batch["seed"])), 2)
            return loss_of_features(first, second)

        def sample_batch(key: Key[Array, ""], split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_with_seeds(key, data, split, batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            found = feature_metrics(encode(params, batch["image"]), batch["label"])
            return {"loss": loss(params, jax.random.key(0), batch)} | found

        return Task(init, loss, sample_batch, metrics)

    return TaskFamily(name, with_seeds(data), samples_nothing, task, uninformed_loss, whole_with_seeds)


def self_supervised(
    data: Data,
    target: Target = "online",
    hidden: int = 64,
    size: int = 32,
    name: str = "self_supervised",
    predictor: PredictorKind = "trained",
) -> TaskFamily:
    """Learn features of the images of `data` without their labels, which only a metric reads.

    Args:
      data: `{split: {"image": uint8[N, height, width, channels], "label": int32[N]}}`.
      target: "online", "random", "slow" or "free".
      hidden: hidden units of the encoder.
      size: number of features; a trained predictor's bottleneck has half as many.
      name: the family's name.
      predictor: "trained" or "eigen".

    Raises:
      ValueError: an unknown target or predictor, or too few units.
    """
    if target not in get_args(Target):
        raise ValueError(f"target={target!r}: use one of {', '.join(get_args(Target))}")
    if predictor not in get_args(PredictorKind):
        raise ValueError(f"predictor={predictor!r}: use one of {', '.join(get_args(PredictorKind))}")
    if hidden < 1 or size < 2:
        raise ValueError(f"hidden={hidden}, size={size}: use hidden of at least 1 and size of at least 2")
    encoder, trained_predictor = Encoder(hidden, size), Predictor(size // 2, size)
    image_shape = data["train"]["image"].shape[1:]

    def init_encoder(key: Key[Array, ""]) -> Params:
        return encoder.lazy_init(key, jax.ShapeDtypeStruct((1, *image_shape), "float32"))["params"]

    def encode(params: Params, images: Float[Array, "batch *image"]) -> Float[Array, "batch size"]:
        return encoder.apply({"params": params}, images)  # pyright: ignore[reportReturnType]

    def predict(params: Params, features: Float[Array, "batch size"]) -> Float[Array, "batch size"]:
        if predictor == "eigen":
            return features @ eigen_predictor(jax.lax.stop_gradient(features))
        return trained_predictor.apply({"params": params["predictor"]}, features)  # pyright: ignore[reportReturnType]

    def sample(key: Key[Array, ""]) -> TaskConfig:
        return {"target": init_encoder(key)} if target == "random" else {}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: Key[Array, ""]) -> Params:
            encoder_key, predictor_key, target_key = jax.random.split(key, 3)
            params = {"encoder": init_encoder(encoder_key)}
            if predictor == "trained":
                features = jax.ShapeDtypeStruct((1, size), "float32")
                params["predictor"] = trained_predictor.lazy_init(predictor_key, features)["params"]
            if target == "slow":
                params["target"] = init_encoder(target_key)
            return params

        def aim_of(params: Params, features: jax.Array, views: jax.Array) -> Float[Array, "views size"]:
            if target == "free":
                return features
            if target == "online":
                return jax.lax.stop_gradient(features)
            if target == "slow":
                return jax.lax.stop_gradient(encode(params["target"], views))
            random_encoder = jax.tree.map(lambda leaf: leaf.astype(views.dtype), task_config["target"])
            return normalise_over_batch(encode(random_encoder, views))

        def loss(params: Params, key: Key[Array, ""], batch: Batch) -> Float[Array, ""]:
            del key
            views = two_views(batch["image"], batch["seed"])
            features = encode(params["encoder"], views)
            other_view = jnp.roll(aim_of(params, features, views), len(batch["seed"]), axis=0)
            distance = 1 + negative_cosine(predict(params, features), other_view)
            return distance + tether(params["target"], params["encoder"]) if target == "slow" else distance

        def sample_batch(key: Key[Array, ""], split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_with_seeds(key, data, split, batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            found = feature_metrics(encode(params["encoder"], batch["image"]), batch["label"])
            return {"loss": loss(params, jax.random.key(0), batch)} | found

        return Task(init, loss, sample_batch, metrics)

    return TaskFamily(name, with_seeds(data), sample, task, UNINFORMED_LOSS, whole_with_seeds)
