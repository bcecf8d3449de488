"""How the examples of a dataset are divided into train / inner_valid / outer_valid / test. Nothing is shuffled, so a
split is a property of the file."""

from collections.abc import Mapping

import numpy as np

from tasks.base import SPLITS, Data

NUM_DRAWERS = 20
DRAWERS = {"train": slice(0, 14), "inner_valid": slice(14, 16), "outer_valid": slice(16, 18), "test": slice(18, 20)}


def split_80_10_10(arrays: Mapping[str, np.ndarray]) -> Data:
    """Cuts `x_train`, `y_train` in order, 80 % train, 10 % inner_valid, 10 % outer_valid, and adds `x_test`, `y_test`
    as they are."""
    num_train = len(arrays["x_train"])
    cuts = [num_train * 8 // 10, num_train * 9 // 10]
    image_parts = [*np.split(arrays["x_train"], cuts), arrays["x_test"]]
    label_parts = [*np.split(arrays["y_train"], cuts), arrays["y_test"]]
    return {
        split: {"image": image, "label": label.astype(np.int32)}
        for split, image, label in zip(SPLITS, image_parts, label_parts, strict=True)
    }


def split_by_drawer(arrays: Mapping[str, np.ndarray]) -> Data:
    """Omniglot: rows come character by character, each drawn by 20 people; drawers 1-14 are train, 15-16 inner_valid,
    17-18 outer_valid, 19-20 test.

    Every split holds every character, and nobody's drawings of an alphabet are in two splits. The rows of a split come
    drawer by drawer, so that a part of it holds all alphabets.

    Args:
      arrays: `x_test` [20 n, ...] and `y_test` [20 n], the evaluation set.
    """

    def rows(array: np.ndarray, drawers: slice) -> np.ndarray:
        by_drawer = np.swapaxes(array.reshape(-1, NUM_DRAWERS, *array.shape[1:]), 0, 1)
        return np.concatenate(by_drawer[drawers])

    return {
        split: {"image": rows(arrays["x_test"], drawers), "label": rows(arrays["y_test"], drawers).astype(np.int32)}
        for split, drawers in DRAWERS.items()
    }


def split_contiguous_text(rows: np.ndarray) -> Data:
    """Rows of a text in reading order: 80 % are train, then 5 % inner_valid, 5 % outer_valid and 10 % test."""
    cuts = [len(rows) * percent // 100 for percent in (80, 85, 90)]
    return {split: {"tokens": part} for split, part in zip(SPLITS, np.split(rows, cuts), strict=True)}
