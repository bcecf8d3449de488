"""Barlow Twins: features that agree between two views of an image and do not repeat each other.

    z_a, z_b = features of both views, each column less its mean and divided by its standard deviation over the batch
    C = z_a^T z_b / B,   loss = sum_i (1 - C_ii)^2 + redundancy sum_{i != j} C_ij^2

Zbontar, Jing, Misra, LeCun & Deny (2021, "Barlow Twins", arXiv 2103.03230). No predictor, no target and no
stop-gradient: constant features have C = 0 and cost the number of features D. Encoder, views and metrics are those of
`self_supervised`. Deviations: no projector behind the encoder, and `redundancy` is 1 / D by default where they use
0.005 with D = 8192, so that both sums have the same weight against features that are all equal. Loss and metrics are
functions of the whole batch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily, samples_nothing
from tasks.families.images.self_supervised import (
    Encoder,
    feature_metrics,
    normalise_over_batch,
    sample_with_seeds,
    two_views,
    whole_with_seeds,
    with_seeds,
)


def redundancy_reduction(
    first: Float[Array, "batch size"], second: Float[Array, "batch size"], redundancy: float
) -> Float[Array, ""]:
    """The loss from the features of both views, not yet normalised."""
    correlation = normalise_over_batch(first).T @ normalise_over_batch(second) / len(first)
    diagonal = jnp.diagonal(correlation)
    off_diagonal = jnp.sum(correlation**2) - jnp.sum(diagonal**2)
    return jnp.sum((1 - diagonal) ** 2) + redundancy * off_diagonal


def barlow_twins(
    data: Data, redundancy: float | None = None, hidden: int = 64, size: int = 32, name: str = "barlow_twins"
) -> TaskFamily:
    """Learn features of the images of `data` without their labels, which only a metric reads.

    Args:
      data: `{split: {"image": uint8[N, height, width, channels], "label": int32[N]}}`.
      redundancy: weight of the off-diagonal correlations, 0 or more; None for 1 / size.
      hidden: hidden units of the encoder.
      size: number of features D.
      name: the family's name.

    Raises:
      ValueError: a negative redundancy, or too few units.
    """
    if redundancy is not None and redundancy < 0:
        raise ValueError(f"redundancy={redundancy}: use 0 or more")
    if hidden < 1 or size < 2:
        raise ValueError(f"hidden={hidden}, size={size}: use hidden of at least 1 and size of at least 2")
    encoder, weight = Encoder(hidden, size), 1 / size if redundancy is None else redundancy
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
            return redundancy_reduction(first, second, weight)

        def sample_batch(key: Key[Array, ""], split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_with_seeds(key, data, split, batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            found = feature_metrics(encode(params, batch["image"]), batch["label"])
            return {"loss": loss(params, jax.random.key(0), batch)} | found

        return Task(init, loss, sample_batch, metrics)

    # Constant features have no correlation at all.
    return TaskFamily(name, with_seeds(data), samples_nothing, task, float(size), whole_with_seeds)
