"""Classification as a `Task`: what image classifiers share once the network is given.

The loss of one example is the cross-entropy logsumexp(z) - z_y of its logits z and label y,
in nats.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import images_at, split_of, whole_split
from tasks.datasets.stacked_datasets import mean_over_rows, num_stacked
from tasks.networks.network import MakeNetwork, network_apply, network_init
from tasks.networks.variants import Variants, draw_rows, sample_config


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
    config: TaskConfig | None = None,
    num_datasets: int = 1,
) -> Task:
    """The task of fitting a network to the images of `data`.

    Args:
      init: key -> params.
      apply: (params, images float32 [B, ...]) -> logits [B, C].
      data: `{split: {"image": uint8[N, ...], "label": int32[N]}}`.
      config: which variant of the task it is; None for the plain one.
      num_datasets: how many datasets are stacked in `data`.
    """
    config = {} if config is None else config

    def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
        del key
        return mean_over_rows(cross_entropy(apply(params, batch["image"]), batch["label"]), config, batch)

    def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
        examples = split_of(data, split)
        return images_at(examples, draw_rows(key, batch_shape, examples["image"].shape[0], config, num_datasets))

    def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
        logits = apply(params, batch["image"])
        hits = jnp.argmax(logits, axis=-1) == batch["label"]
        return {
            "loss": mean_over_rows(cross_entropy(logits, batch["label"]), config, batch),
            "accuracy": mean_over_rows(hits.astype(jnp.float32), config, batch),
        }

    return Task(init, loss, sample_batch, metrics)


def classification_family(
    name: str,
    data: Data,
    make_network: MakeNetwork,
    num_classes: int,
    default_activation: str,
    variants: Variants,
) -> TaskFamily:
    """Classify the images of `data` with a network.

    Args:
      name: the family's name.
      data: `{split: {"image": uint8[N, ...], "label": int32[N]}}`, or such datasets stacked.
      make_network: activation -> flax module from images float32 [B, ...] to logits [B, num_classes].
      num_classes: labels lie in [0, num_classes).
      default_activation: where the variants name none.
      variants: what differs between tasks.

    Raises:
      ValueError: fewer than two classes.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes={num_classes}: use at least 2")
    num_datasets = num_stacked(data)

    def sample(key: jax.Array) -> TaskConfig:
        return sample_config(key, variants, num_datasets)

    def task(task_config: TaskConfig, data: Data) -> Task:
        example = jax.ShapeDtypeStruct((1, *data["train"]["image"].shape[1:]), "float32")
        init = network_init(make_network, example, variants, default_activation, task_config)
        apply = network_apply(make_network, variants, default_activation, task_config)
        return classification_task(init, apply, data, task_config, num_datasets)

    return TaskFamily(name, data, sample, task, math.log(num_classes), whole_split)
