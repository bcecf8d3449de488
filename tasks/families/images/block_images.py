"""Images of two blocks, one of which means nothing: what does a classifier look at?

    image = [object; null] or [null; object], one above the other in random order
    h_0 = pixels,   h_i = relu(h_{i-1} W_i + b_i),   logits = h_L W + b,   loss = cross-entropy

BlockMNIST (Shah, Jain & Netrapalli 2021, "Do Input Gradients Highlight Discriminative Features?", arXiv 2102.12781)
from any images: the object is an image, and the null block a hollow square that is the same everywhere, so that only
its place differs. The label is that of the object. Ordinarily trained networks have large input gradients on the null
block too, although it cannot change the label: features leak from one place to the other.

Metrics: `accuracy`; `null_gradient_share`, the part of the absolute gradient of the label's loss with respect to the
pixels that lies on the null block, averaged over examples: 0 where the network looks at the object alone, about 1 / 2
where it does not tell the blocks apart.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.families.images.image_mlp import MLP
from tasks.networks.classification import classification_family, cross_entropy
from tasks.networks.network import check_sizes, network_apply
from tasks.networks.variants import PLAIN


def null_block(height: int, width: int, channels: int) -> np.ndarray:
    """A hollow white square, half as wide as the image, on black; uint8 [height, width, channels]."""
    block = np.zeros((height, width, channels), np.uint8)
    top, left = height // 4, width // 4
    block[top : height - top, left : width - left] = 255
    block[top + 1 : height - top - 1, left + 1 : width - left - 1] = 0
    return block


def with_null_blocks(data: Data, seed: int = 0) -> Data:
    """Images of twice the height, and a leaf `null_first` int32 [N], 1 where the null block is above."""
    rng = np.random.default_rng(seed)
    found = {}
    for split, examples in data.items():
        images = np.asarray(examples["image"])
        null_first = rng.integers(0, 2, len(images), np.int32)
        null = np.broadcast_to(null_block(*images.shape[1:]), images.shape)
        above, below = np.concatenate([images, null], axis=1), np.concatenate([null, images], axis=1)
        stacked = np.where(null_first[:, None, None, None] == 1, below, above)
        found[split] = {**examples, "image": stacked, "null_first": null_first}
    return found


def null_gradient_share(apply: Callable[[Array], Float[Array, "batch classes"]], batch: Batch) -> Float[Array, ""]:
    """Part of the absolute input gradient on the null block, averaged over examples.

    Args:
      apply: images [B, 2 H, W, C] -> logits.
      batch: `image`, `label` and `null_first`.
    """
    gradient = jax.grad(lambda images: jnp.sum(cross_entropy(apply(images), batch["label"])))(batch["image"])
    above, below = (jnp.sum(jnp.abs(half), axis=(1, 2, 3)) for half in jnp.split(gradient, 2, axis=1))
    on_null = jnp.where(batch["null_first"] == 1, above, below)
    # An example that is classified with certainty has no gradient.
    return jnp.mean(on_null / jnp.maximum(above + below, jnp.finfo(above.dtype).tiny))


def block_images(
    data: Data, hidden_sizes: Sequence[int] = (32,), name: str = "block_images", num_classes: int = 10
) -> TaskFamily:
    """Classify the images of `data`, each beside a null block, with an MLP.

    Args:
      data: `{split: {"image": uint8[N, height, width, channels], "label": int32[N]}}`.
      hidden_sizes: widths of the hidden layers; empty for a linear classifier.
      name: the family's name.
      num_classes: labels lie in [0, num_classes).

    Raises:
      ValueError: a width below 1, or fewer than two classes.
    """
    check_sizes(hidden_sizes=tuple(hidden_sizes))

    def make_network(activation: Callable[[Array], Array]) -> MLP:
        return MLP((*hidden_sizes, num_classes), activation)

    family = classification_family(name, with_null_blocks(data), make_network, num_classes, "relu", PLAIN)
    apply = network_apply(make_network, PLAIN, "relu", {})

    def task(task_config: TaskConfig, data: Data) -> Task:
        inner = family.task(task_config, data)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            share = null_gradient_share(lambda images: apply(params, images), batch)
            return inner.metrics(params, batch) | {"null_gradient_share": share}

        return inner._replace(metrics=metrics)

    return family._replace(task=task)
