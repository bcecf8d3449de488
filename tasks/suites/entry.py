"""One line of a suite: a family, and what is said of it."""

from collections.abc import Callable
from typing import NamedTuple

from tasks.base import Data, TaskFamily
from tasks.datasets.load import load_dataset
from tasks.datasets.text import load_text
from tasks.networks.language_model import compact_vocabulary


class SuiteEntry(NamedTuple):
    """One family of a suite.

    Attributes:
      make: builds the family, which loads or generates its data.
      description: one line.
      dataset: name of its dataset; generated data have a name of their own.
      architecture: name of its network or model class.
      num_params: parameters of one task.
      paper: whose problem it is, author, year and arXiv number; empty where the description says enough.
    """

    make: Callable[[], TaskFamily]
    description: str
    dataset: str
    architecture: str
    num_params: int
    paper: str = ""


def fashion_mnist_8() -> Data:
    """The embedded Fashion-MNIST, grey, 8x8."""
    return load_dataset("fashion_mnist", image_size=8, grey=True)


def omniglot_8() -> Data:
    """The embedded alphabets of Omniglot at 8x8, 20 classes."""
    return load_dataset("omniglot_alphabets", image_size=8)


def shakespeare_32() -> Data:
    """The embedded Tiny Shakespeare in rows that predict 32 characters each, 65 different ones."""
    return compact_vocabulary(load_text("tiny_shakespeare", row_length=33))[0]
