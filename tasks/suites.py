"""The task families by name. A literal table: to add a family is to add a line."""

import difflib
from collections.abc import Callable

from tasks.base import TaskFamily
from tasks.datasets import load_dataset
from tasks.image_mlp import image_mlp


def fmnist8_mlp32() -> TaskFamily:
    """Fashion-MNIST at 8x8, MLP 64-32-10: 2,410 parameters."""
    return image_mlp(load_dataset("fashion_mnist", image_size=8, grey=True), (32,), "fmnist8_mlp32")


FAMILIES: dict[str, Callable[[], TaskFamily]] = {
    "fmnist8_mlp32": fmnist8_mlp32,
}


def make_family(name: str) -> TaskFamily:
    """Builds a family, which loads its data.

    Raises:
      ValueError: unknown name, with the nearest ones (or all of them where none is near).
    """
    if name not in FAMILIES:
        near = difflib.get_close_matches(name, FAMILIES) or sorted(FAMILIES)
        raise ValueError(f"unknown task family {name!r}: did you mean {' or '.join(near)}?")
    return FAMILIES[name]()
