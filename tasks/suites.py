"""The task families by name, in three sets: what optimizers are meta-trained on, what meta-training is tuned on, and
what optimizers are judged on. Literal tables: to add a family is to add an entry.

No dataset and no architecture of META_TEST occurs in META_TRAIN.
"""

import difflib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tasks.base import TaskFamily
from tasks.datasets import load_dataset
from tasks.image_mlp import image_mlp


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


META_TRAIN: dict[str, SuiteEntry] = {
    "fmnist8_mlp32": SuiteEntry(
        make=lambda: image_mlp(load_dataset("fashion_mnist", image_size=8, grey=True), (32,), "fmnist8_mlp32"),
        description="Fashion-MNIST at 8x8, MLP 64-32-10",
        dataset="fashion_mnist",
        architecture="mlp",
        num_params=2_410,
    ),
}

META_VALID: dict[str, SuiteEntry] = {}

META_TEST: dict[str, SuiteEntry] = {}

SUITES: dict[str, dict[str, SuiteEntry]] = {
    "meta_train": META_TRAIN,
    "meta_valid": META_VALID,
    "meta_test": META_TEST,
}

FAMILIES: dict[str, SuiteEntry] = META_TRAIN | META_VALID | META_TEST
"""Every family."""


def names_of(names: Sequence[str]) -> tuple[str, ...]:
    """Names of families, with the names of suites replaced by those of their families.

    Raises:
      ValueError: unknown name, with the nearest ones (or all of them where none is near).
    """
    found: dict[str, None] = {}
    for name in names:
        if name not in FAMILIES and name not in SUITES:
            known = (*SUITES, *FAMILIES)
            near = difflib.get_close_matches(name, known) or sorted(known)
            raise ValueError(f"unknown task family {name!r}: did you mean {' or '.join(near)}?")
        found |= dict.fromkeys(SUITES.get(name, (name,)))
    return tuple(found)


def make_family(name: str) -> TaskFamily:
    """Builds a family, which loads its data.

    Raises:
      ValueError: unknown name, with the nearest ones.
      FileNotFoundError: its dataset is not embedded and was not found; the message says how to get it.
    """
    if name in SUITES:
        raise ValueError(f"{name!r} is a suite of {len(SUITES[name])} families: name one of them")
    names_of([name])
    return FAMILIES[name].make()
