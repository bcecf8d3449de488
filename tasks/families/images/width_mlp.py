"""An image MLP of any width in two parametrisations: does one learning rate serve all widths?

    h_1 = relu(x W_1 + b_1),   h_2 = relu(m h_1 W_2 + b_2),   logits = m h_2 W_3 + b_3
    standard   m = 1,          W_2 and W_3 start with standard deviations n^-1/2
    mup        m = n_0 / n,    W_2 starts with n^1/2 / n_0, W_3 with n_0^-1/2

for hidden width n and a base width n_0, at which the two are the same. W_1 starts with fan-in^-1/2 and biases with 0.

In mup (Yang & Hu 2021, arXiv 2011.14522; for Adam: Yang et al. 2022, arXiv 2203.03466) features move as much in a wide
network as in a narrow one, so that the best learning rate stays put and wider is better; in the standard
parametrisation steps of fixed size in n weights add up, and the best rate falls with n. The published table for Adam
divides the hidden matrices' rate by n; here the factor n_0 / n before the matrix does the same, so that one learning
rate is enough and any optimizer can be used. That holds for steps that do not depend on the scale of the gradient
(Adam, Lion, signs); gradient descent needs other exponents, and steps in proportion to the norm of the parameters too.
"""

from typing import Literal, get_args

import flax.linen as nn
from jaxtyping import Array, Float

from tasks.base import Data, TaskFamily
from tasks.networks.classification import classification_family
from tasks.networks.network import check_sizes
from tasks.networks.variants import PLAIN, Activation, Variants

Parametrisation = Literal["mup", "standard"]


class WidthMLP(nn.Module):
    """[B, ...] -> logits [B, num_classes] through two hidden layers."""

    width: int
    num_classes: int
    multiplier: float
    hidden_std: float
    output_std: float
    activation: Activation

    @nn.compact
    def __call__(self, images: Float[Array, "batch *image"]) -> Float[Array, "batch classes"]:
        def weights(name: str, std: float, fan_in: int, fan_out: int) -> Array:
            return self.param(name, nn.initializers.normal(std), (fan_in, fan_out))

        def bias(name: str, size: int) -> Array:
            return self.param(name, nn.initializers.zeros, (size,))[None]

        pixels = images.reshape(images.shape[0], -1)
        fan_in = pixels.shape[1]
        h = self.activation(
            pixels @ weights("input", fan_in**-0.5, fan_in, self.width) + bias("input_bias", self.width)
        )
        h = self.multiplier * (h @ weights("hidden", self.hidden_std, self.width, self.width))
        h = self.activation(h + bias("hidden_bias", self.width))
        logits = self.multiplier * (h @ weights("output", self.output_std, self.width, self.num_classes))
        return logits + bias("output_bias", self.num_classes)


def width_mlp(
    data: Data,
    width: int = 128,
    parametrisation: Parametrisation = "mup",
    base_width: int = 32,
    name: str = "width_mlp",
    num_classes: int = 10,
    variants: Variants = PLAIN,
) -> TaskFamily:
    """Classify the images of `data` with an MLP of two hidden layers.

    Args:
      data: `{split: {"image": uint8[N, ...], "label": int32[N]}}`.
      width: n, of both hidden layers.
      parametrisation: "mup" or "standard".
      base_width: n_0, at which the parametrisations agree.
      name: the family's name.
      num_classes: labels lie in [0, num_classes).
      variants: what differs between tasks; by default nothing.

    Raises:
      ValueError: an unknown parametrisation, a width below 1, or fewer than two classes.
    """
    if parametrisation not in get_args(Parametrisation):
        raise ValueError(f"parametrisation={parametrisation!r}: use one of {', '.join(get_args(Parametrisation))}")
    check_sizes(width=width, base_width=base_width)
    if parametrisation == "standard":
        multiplier, hidden_std, output_std = 1.0, width**-0.5, width**-0.5
    else:
        multiplier, hidden_std, output_std = base_width / width, width**0.5 / base_width, base_width**-0.5

    def make_network(activation: Activation) -> WidthMLP:
        return WidthMLP(width, num_classes, multiplier, hidden_std, output_std, activation)

    return classification_family(name, data, make_network, num_classes, "relu", variants)
