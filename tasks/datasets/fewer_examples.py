"""A dataset with fewer training examples, which a network can fit to the last one."""

from tasks.base import Data


def fewer_examples(data: Data, num_train: int) -> Data:
    """The first `num_train` rows of `train`; the other splits as they are.

    Raises:
      ValueError: fewer than 1, or more than there are.
    """
    rows = len(next(iter(data["train"].values())))
    if not 1 <= num_train <= rows:
        raise ValueError(f"num_train={num_train}: use between 1 and {rows}, the training examples that there are")
    return {**data, "train": {leaf: values[:num_train] for leaf, values in data["train"].items()}}
