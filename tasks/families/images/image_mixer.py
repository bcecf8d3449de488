"""Image classification with an MLP-Mixer (Tolstikhin et al. 2021, arXiv 2105.01601).

    h [tokens, D]:   h <- h + MLP_1(LN(h)')',   h <- h + MLP_2(LN(h)),   MLP(x) = W_2 gelu(W_1 x + b_1) + b_2

Tokens are patches; the classifier reads the mean over tokens of LN(h). Deviation: it starts at LeCun normal instead of
zero, so that the first gradient reaches every parameter.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.base import Data, TaskFamily
from tasks.networks.classification import classification_family
from tasks.networks.image_patches import check_patch_size, cut_into_patches
from tasks.networks.network import check_sizes
from tasks.networks.normalization import LayerNorm
from tasks.networks.variants import PLAIN, Activation, Variants


class Mixer(nn.Module):
    """[B, H, W, C] -> logits [B, num_classes]."""

    patch_size: int
    hidden_size: int
    depth: int
    token_units: int
    channel_units: int
    num_classes: int
    activation: Activation

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width channels"]) -> Float[Array, "batch classes"]:
        def mlp(x, units):
            inner = self.activation(nn.Dense(units)(x))
            return nn.Dense(x.shape[-1])(inner)

        h = nn.Dense(self.hidden_size, name="embed")(cut_into_patches(images, self.patch_size))
        for _ in range(self.depth):
            h = h + jnp.swapaxes(mlp(jnp.swapaxes(LayerNorm()(h), 1, 2), self.token_units), 1, 2)
            h = h + mlp(LayerNorm()(h), self.channel_units)
        return nn.Dense(self.num_classes, name="head")(LayerNorm()(h).mean(axis=1))


def image_mixer(
    data: Data,
    patch_size: int = 2,
    hidden_size: int = 32,
    depth: int = 2,
    token_units: int = 16,
    channel_units: int = 64,
    name: str = "image_mixer",
    num_classes: int = 10,
    variants: Variants = PLAIN,
) -> TaskFamily:
    """Classify the images of `data` with an MLP-Mixer.

    Args:
      data: `{split: {"image": uint8[N, H, W, C], "label": int32[N]}}`.
      patch_size: height and width of a patch in pixels; divides those of the images.
      hidden_size: width of a token.
      depth: blocks.
      token_units: hidden units of the MLPs over tokens.
      channel_units: hidden units of the MLPs over channels.
      name: the family's name.
      num_classes: labels lie in [0, num_classes).
      variants: what differs between tasks; by default nothing.

    Raises:
      ValueError: a size below 1, patches that do not tile the images, or fewer than two classes.
    """
    check_sizes(
        patch_size=patch_size,
        hidden_size=hidden_size,
        depth=depth,
        token_units=token_units,
        channel_units=channel_units,
    )
    check_patch_size(data, patch_size)

    def network(activation: Activation) -> nn.Module:
        return Mixer(patch_size, hidden_size, depth, token_units, channel_units, num_classes, activation)

    return classification_family(name, data, network, num_classes, "gelu", variants)
