"""Classification as a `Task`: what image classifiers share once the network is given.

The loss of one example is the cross-entropy logsumexp(z) - z_y of its logits z and label y,
in nats.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tasks.base import Batch, Data, Params, Task
from tasks.batches import sample_images, split_of


def cross_entropy(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Cross-entropy of each example in nats.

    The label's logit is picked with a one-hot product: its gradient is dense arithmetic, that of
    indexing a scatter.
    """
    picked = jnp.sum(logits * jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - picked


def classification_task(
    init: Callable[[jax.Array], Params],
    apply: Callable[[Params, Float[Array, "batch *image"]], Float[Array, "batch classes"]],
    data: Data,
) -> Task:
    """The task of fitting a network to the images of `data`.

    Args:
      init: key -> params.
      apply: (params, images float32 [B, ...]) -> logits [B, C].
      data: `{split: {"image": uint8[N, ...], "label": int32[N]}}`.
    """

    def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
        del key
        return jnp.mean(cross_entropy(apply(params, batch["image"]), batch["label"]))

    def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
        return sample_images(key, split_of(data, split), batch_shape)

    def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
        logits = apply(params, batch["image"])
        hits = jnp.argmax(logits, axis=-1) == batch["label"]
        return {
            "loss": jnp.mean(cross_entropy(logits, batch["label"])),
            "accuracy": jnp.mean(hits.astype(jnp.float32)),
        }

    return Task(init, loss, sample_batch, metrics)
