"""One line of a suite: a family, and what is said of it."""

from collections.abc import Callable
from typing import NamedTuple

from tasks.base import Data, TaskFamily
from tasks.datasets.load import load_dataset


class SuiteEntry(NamedTuple):
    """One family of a suite.

    Attributes:
      make: builds the family, which loads or generates its data.
      description: one line.
      dataset: name of its dataset; generated data have a name of their own.
      architecture: name of its network or model class.
      num_params: parameters of one task.
    """

    make: Callable[[], TaskFamily]
    description: str
    dataset: str
    architecture: str
    num_params: int


def fashion_mnist_8() -> Data:
    """The embedded Fashion-MNIST, grey, 8x8."""
    return load_dataset("fashion_mnist", image_size=8, grey=True)
