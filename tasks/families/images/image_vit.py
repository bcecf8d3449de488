"""Image classification with a vision transformer.

    h = patches W_e + b_e + positions,  blocks of `tasks.networks.attention`,  logits = mean over tokens of LN(h) W + b

Dosovitskiy et al. 2020 (arXiv 2010.11929), with the mean over tokens instead of a class token (Beyer et al. 2022, arXiv
2205.01580). Deviation: the classifier starts at LeCun normal instead of zero, so that the first gradient reaches every
parameter.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from tasks.base import Data, TaskFamily
from tasks.networks.attention import TransformerBlock
from tasks.networks.classification import classification_family
from tasks.networks.image_patches import check_patch_size, cut_into_patches
from tasks.networks.network import check_sizes
from tasks.networks.normalization import LayerNorm
from tasks.networks.variants import PLAIN, Activation, Variants


class ViT(nn.Module):
    """[B, H, W, C] -> logits [B, num_classes]."""

    patch_size: int
    hidden_size: int
    depth: int
    num_heads: int
    mlp_ratio: int
    num_classes: int
    activation: Activation

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width channels"]) -> Float[Array, "batch classes"]:
        h = nn.Dense(self.hidden_size, name="embed")(cut_into_patches(images, self.patch_size))
        positions = self.param("positions", nn.initializers.normal(0.02), h.shape[1:])
        h = h + positions[None]
        for _ in range(self.depth):
            h = TransformerBlock(self.num_heads, self.mlp_ratio, False, self.activation)(h)
        return nn.Dense(self.num_classes, name="head")(LayerNorm()(h).mean(axis=1))


def image_vit(
    data: Data,
    patch_size: int = 2,
    hidden_size: int = 32,
    depth: int = 2,
    num_heads: int = 4,
    mlp_ratio: int = 2,
    name: str = "image_vit",
    num_classes: int = 10,
    variants: Variants = PLAIN,
) -> TaskFamily:
    """Classify the images of `data` with a vision transformer.

    Args:
      data: `{split: {"image": uint8[N, H, W, C], "label": int32[N]}}`.
      patch_size: height and width of a patch in pixels; divides those of the images.
      hidden_size: width of a token.
      depth: transformer blocks.
      num_heads: attention heads; divides `hidden_size`.
      mlp_ratio: hidden units of a block's MLP per `hidden_size`.
      name: the family's name.
      num_classes: labels lie in [0, num_classes).
      variants: what differs between tasks; by default nothing.

    Raises:
      ValueError: a size below 1, sizes that do not divide each other as stated, or fewer than two classes.
    """
    check_sizes(patch_size=patch_size, hidden_size=hidden_size, depth=depth, num_heads=num_heads, mlp_ratio=mlp_ratio)
    if hidden_size % num_heads:
        raise ValueError(f"num_heads={num_heads}: use a divisor of hidden_size={hidden_size}")
    check_patch_size(data, patch_size)

    def network(activation: Activation) -> nn.Module:
        return ViT(patch_size, hidden_size, depth, num_heads, mlp_ratio, num_classes, activation)

    return classification_family(name, data, network, num_classes, "gelu", variants)
