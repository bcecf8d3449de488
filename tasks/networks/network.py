"""A flax network as the two functions that a task needs, with the variants of its configuration."""

from collections.abc import Callable

import flax.linen as nn
import jax
from jaxtyping import Array, Key

from tasks.base import Params, TaskConfig
from tasks.networks.variants import Activation, Variants, activation_of, scale_init

MakeNetwork = Callable[[Activation], nn.Module]
"""activation -> network, one positional input."""


def network_init(
    make_network: MakeNetwork, example: jax.ShapeDtypeStruct, variants: Variants, default: str, config: TaskConfig
) -> Callable[[Key[Array, ""]], Params]:
    """key -> params, without computing the network. `example` is the shape and dtype of an input."""

    def init(key: Key[Array, ""]) -> Params:
        model = make_network(activation_of(variants, config, default))
        return scale_init(config, model.lazy_init(key, example)["params"])

    return init


def network_apply(
    make_network: MakeNetwork, variants: Variants, default: str, config: TaskConfig
) -> Callable[[Params, Array], Array]:
    """(params, input) -> output."""
    model = make_network(activation_of(variants, config, default))

    def apply(params: Params, inputs: Array) -> Array:
        return model.apply({"params": params}, inputs)  # pyright: ignore[reportReturnType]

    return apply


def check_sizes(**sizes: int | tuple[int, ...]) -> None:
    """Widths, depths and the like must be positive.

    Raises:
      ValueError: naming the first that is not.
    """
    for name, size in sizes.items():
        if any(s < 1 for s in (size if isinstance(size, tuple) else (size,))):
            raise ValueError(f"{name}={size}: every size must be at least 1")
