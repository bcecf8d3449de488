"""Image classification with a residual network that normalises groups of channels.

    block: h + GN(conv3x3(relu(GN(conv3x3(h))))), then relu;   h -> GN(conv1x1(h)) where the shape changes

Residual blocks after He et al. 2015 (arXiv 1512.03385); group normalisation (Wu and He 2018, arXiv 1803.08494) instead
of batch normalisation, which keeps running statistics besides the parameters and is at odds with local SGD's small and
diverging workers. The stem is a 3x3 convolution as in the CIFAR networks of the paper. Convolutions have no bias: the
normalisation that follows has one.
"""

from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from tasks.base import Data, TaskFamily
from tasks.networks.classification import classification_family
from tasks.networks.network import check_sizes
from tasks.networks.normalization import GroupNorm
from tasks.networks.patch_conv import PatchConv
from tasks.networks.variants import PLAIN, Activation, Variants


class ResNet(nn.Module):
    """[B, H, W, C] -> logits [B, num_classes]."""

    widths: tuple[int, ...]
    blocks_per_stage: int
    num_groups: int
    num_classes: int
    activation: Activation

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width channels"]) -> Float[Array, "batch classes"]:
        def conv(h, features, size, stride):
            return GroupNorm(self.num_groups)(PatchConv(features, size, stride, use_bias=False)(h))

        h = self.activation(conv(images, self.widths[0], 3, 1))
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks_per_stage):
                stride = 2 if stage > 0 and block == 0 else 1
                branch = conv(self.activation(conv(h, width, 3, stride)), width, 3, 1)
                h = h if h.shape == branch.shape else conv(h, width, 1, stride)
                h = self.activation(h + branch)
        return nn.Dense(self.num_classes)(h.mean(axis=(1, 2)))


def image_resnet(
    data: Data,
    widths: Sequence[int] = (16, 32),
    blocks_per_stage: int = 1,
    num_groups: int = 4,
    name: str = "image_resnet",
    num_classes: int = 10,
    variants: Variants = PLAIN,
) -> TaskFamily:
    """Classify the images of `data` with a ResNet.

    Args:
      data: `{split: {"image": uint8[N, H, W, C], "label": int32[N]}}`.
      widths: channels of each stage; every stage but the first halves the resolution.
      blocks_per_stage: residual blocks of two convolutions.
      num_groups: groups of channels of each normalisation; divides every width.
      name: the family's name.
      num_classes: labels lie in [0, num_classes).
      variants: what differs between tasks; by default nothing.

    Raises:
      ValueError: no stage, a size below 1, groups that do not divide a width, or fewer than two classes.
    """
    widths = tuple(widths)
    if not widths:
        raise ValueError("widths=(): use at least one stage")
    check_sizes(widths=widths, blocks_per_stage=blocks_per_stage, num_groups=num_groups)
    if any(width % num_groups for width in widths):
        raise ValueError(f"num_groups={num_groups}: use a divisor of every width in {widths}")

    def network(activation: Activation) -> nn.Module:
        return ResNet(widths, blocks_per_stage, num_groups, num_classes, activation)

    return classification_family(name, data, network, num_classes, "relu", variants)
