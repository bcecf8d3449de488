"""Image classification with a multi-layer perceptron.

    h_0 = flattened pixels in [0, 1],   h_i = relu(h_{i-1} W_i + b_i),   logits = h_L W + b

Weights are drawn with flax's default, LeCun normal (variance 1 / fan-in, truncated at two standard
deviations; LeCun et al. 1998, "Efficient BackProp"), biases start at zero. The plain family holds a
single task, so its configuration is empty.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from tasks.base import Data, TaskFamily
from tasks.networks.classification import classification_family
from tasks.networks.network import check_sizes
from tasks.networks.variants import PLAIN, Activation, Variants


class MLP(nn.Module):
    """[B, ...] -> logits [B, layer_sizes[-1]]."""

    layer_sizes: tuple[int, ...]
    activation: Activation = jax.nn.relu

    @nn.compact
    def __call__(self, images: Float[Array, "batch *image"]) -> Float[Array, "batch classes"]:
        *hidden_sizes, num_classes = self.layer_sizes
        h = images.reshape(images.shape[0], -1)
        for size in hidden_sizes:
            h = self.activation(nn.Dense(size)(h))
        return nn.Dense(num_classes)(h)


def image_mlp(
    data: Data,
    hidden_sizes: Sequence[int] = (32,),
    name: str = "image_mlp",
    num_classes: int = 10,
    variants: Variants = PLAIN,
) -> TaskFamily:
    """Classify the images of `data` with an MLP.

    Args:
      data: `{split: {"image": uint8[N, ...], "label": int32[N]}}`.
      hidden_sizes: widths of the hidden layers; empty for a linear classifier.
      name: the family's name.
      num_classes: labels lie in [0, num_classes).
      variants: what differs between tasks; by default nothing.

    Raises:
      ValueError: a width below 1, or fewer than two classes.
    """
    check_sizes(hidden_sizes=tuple(hidden_sizes))
    layer_sizes = (*hidden_sizes, num_classes)
    return classification_family(name, data, lambda act: MLP(layer_sizes, act), num_classes, "relu", variants)
