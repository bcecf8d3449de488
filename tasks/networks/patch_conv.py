"""Convolution as a matrix product over patches (im2col; Chellapilla, Puri and Simard 2006), for small images on CPU.

    y[i, j] = sum_{a, b} x[s i + a - p, s j + b - p] K[a, b]

Local SGD vmaps the gradient over workers whose kernels differ. `lax.conv` turns that into a grouped convolution, and
inside a loop XLA's CPU backend has only its slow generic convolution; slices, a concatenation and a batched matrix
product stay fast. The parameters are those of `flax.linen.Conv`, and so is the padding ("SAME").
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


def patches_of(
    images: Float[Array, "batch height width channels"], size: int, stride: int
) -> Float[Array, "batch out_height out_width patch"]:
    """The zero-padded size x size patch around every stride-th pixel, flattened as [row, column, channel]."""
    height, width = images.shape[1:3]
    out_height, out_width = -(-height // stride), -(-width // stride)
    pads = [max((out - 1) * stride + size - n, 0) for out, n in ((out_height, height), (out_width, width))]
    images = jnp.pad(images, ((0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)))
    row_span, column_span = (out_height - 1) * stride + 1, (out_width - 1) * stride + 1
    slices = [
        images[:, a : a + row_span : stride, b : b + column_span : stride] for a in range(size) for b in range(size)
    ]
    return jnp.concatenate(slices, axis=-1)


class PatchConv(nn.Module):
    """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features]."""

    features: int
    size: int = 3
    stride: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch out_height out_width features"]:
        shape = (self.size, self.size, images.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        y = patches_of(images, self.size, self.stride) @ kernel.reshape(-1, self.features)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,))[None, None, None]
        return y
