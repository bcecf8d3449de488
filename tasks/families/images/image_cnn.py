"""Image classification with a small convolutional network.

    h_i = relu(conv3x3(h_{i-1}) + b_i),   strides 2, 1, 1, ...,   logits = mean over pixels of h_L, times W, plus b

With widths 32, 64, 64 on CIFAR-10 it is the convolutional task on which learned local-SGD optimizers were meta-trained
(Joseph et al. 2023, arXiv 2312.02204): 56,970 parameters.
"""

from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from tasks.base import Data, TaskFamily
from tasks.networks.classification import classification_family
from tasks.networks.network import check_sizes
from tasks.networks.patch_conv import PatchConv
from tasks.networks.variants import PLAIN, Activation, Variants


class CNN(nn.Module):
    """[B, H, W, C] -> logits [B, num_classes]."""

    widths: tuple[int, ...]
    num_classes: int
    activation: Activation

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width channels"]) -> Float[Array, "batch classes"]:
        h = images
        for layer, width in enumerate(self.widths):
            h = self.activation(PatchConv(width, stride=2 if layer == 0 else 1)(h))
        return nn.Dense(self.num_classes)(h.mean(axis=(1, 2)))


def image_cnn(
    data: Data,
    widths: Sequence[int] = (32, 64, 64),
    name: str = "image_cnn",
    num_classes: int = 10,
    variants: Variants = PLAIN,
) -> TaskFamily:
    """Classify the images of `data` with a convolutional network.

    Args:
      data: `{split: {"image": uint8[N, H, W, C], "label": int32[N]}}`.
      widths: channels of the layers; the first halves the resolution.
      name: the family's name.
      num_classes: labels lie in [0, num_classes).
      variants: what differs between tasks; by default nothing.

    Raises:
      ValueError: no layer, a width below 1, or fewer than two classes.
    """
    widths = tuple(widths)
    if not widths:
        raise ValueError("widths=(): use at least one layer")
    check_sizes(widths=widths)
    return classification_family(name, data, lambda act: CNN(widths, num_classes, act), num_classes, "relu", variants)
