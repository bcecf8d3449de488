"""Fragments are runs of tensors of nearly equal size, and none is without one."""

import numpy as np
import pytest

from learned_opt.algorithms.fragments.partition import partition


def tensors(*sizes):
    return [np.zeros(size, np.float32) for size in sizes]


@pytest.mark.parametrize(
    ("sizes", "num_fragments", "expected"),
    [
        ((4, 4, 4, 4), 2, (0, 0, 1, 1)),
        ((4, 4, 4, 4), 4, (0, 1, 2, 3)),
        ((1, 1, 1, 9), 2, (0, 0, 0, 1)),
        ((9, 1, 1, 1), 2, (0, 1, 1, 1)),
        ((100, 1, 1), 3, (0, 1, 2)),
        ((1, 1, 100), 3, (0, 1, 2)),
        ((0, 0), 2, (0, 1)),
        ((5,), 1, (0,)),
    ],
)
def test_fragments_by_hand(sizes, num_fragments, expected):
    assert partition(tensors(*sizes), num_fragments) == expected


def test_random_tensors_fall_into_runs_without_gaps():
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = rng.integers(0, 50, size=rng.integers(1, 12))
        num_fragments = int(rng.integers(1, len(sizes) + 1))
        found = np.asarray(partition(tensors(*sizes), num_fragments))
        assert found[0] == 0 and found[-1] == num_fragments - 1
        assert set(np.diff(found)) <= {0, 1}


@pytest.mark.parametrize("num_fragments", [0, 4])
def test_more_fragments_than_tensors_are_named(num_fragments):
    with pytest.raises(ValueError, match=f"num_fragments={num_fragments}: use 1 to 3"):
        partition(tensors(1, 2, 3), num_fragments)
