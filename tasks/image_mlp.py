"""Image classification with a multi-layer perceptron.

    h_0 = flattened pixels in [0, 1],   h_i = relu(h_{i-1} W_i + b_i),   logits = h_L W + b

Weights are drawn with flax's default, LeCun normal (variance 1 / fan-in, truncated at two standard
deviations; LeCun et al. 1998, "Efficient BackProp"), biases start at zero. The family holds a
single task, so its configuration is empty.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from tasks.base import Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import whole_split
from tasks.classification import classification_task


class MLP(nn.Module):
    """[B, ...] -> logits [B, layer_sizes[-1]]."""

    layer_sizes: tuple[int, ...]

    @nn.compact
    def __call__(self, images: Float[Array, "batch *image"]) -> Float[Array, "batch classes"]:
        *hidden_sizes, num_classes = self.layer_sizes
        h = images.reshape(images.shape[0], -1)
        for size in hidden_sizes:
            h = nn.relu(nn.Dense(size)(h))
        return nn.Dense(num_classes)(h)


def image_mlp(
    data: Data, hidden_sizes: Sequence[int] = (32,), name: str = "image_mlp", num_classes: int = 10
) -> TaskFamily:
    """Classify the images of `data` with an MLP.

    Args:
      data: `{split: {"image": uint8[N, ...], "label": int32[N]}}`.
      hidden_sizes: widths of the hidden layers; empty for a linear classifier.
      name: the family's name.
      num_classes: labels lie in [0, num_classes).

    Raises:
      ValueError: a width below 1, or fewer than two classes.
    """
    if any(size < 1 for size in hidden_sizes):
        raise ValueError(f"hidden_sizes={tuple(hidden_sizes)}: every width must be at least 1")
    if num_classes < 2:
        raise ValueError(f"num_classes={num_classes}: use at least 2")
    model = MLP((*hidden_sizes, num_classes))

    def sample(key: jax.Array) -> TaskConfig:
        del key
        return {}

    def task(task_config: TaskConfig, data: Data) -> Task:
        del task_config
        image_shape = data["train"]["image"].shape[1:]

        def init(key: jax.Array) -> Params:
            return model.lazy_init(key, jax.ShapeDtypeStruct((1, *image_shape), "float32"))["params"]

        def apply(params: Params, images: jax.Array) -> jax.Array:
            return model.apply({"params": params}, images)  # pyright: ignore[reportReturnType]

        return classification_task(init, apply, data)

    return TaskFamily(name, data, sample, task, math.log(num_classes), whole_split)
