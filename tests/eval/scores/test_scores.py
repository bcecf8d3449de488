"""Scores by hand."""

import numpy as np
import pytest

from eval.scores.scores import (
    final_loss,
    num_diverged,
    reach,
    rounds_to_reach,
    seed_band,
    speed_up,
)

ROUNDS = np.array([2, 4, 6, 8])


@pytest.mark.parametrize(
    ("losses", "target", "expected"),
    [
        ([4.0, 3.0, 2.0, 1.0], 3.0, 4),
        ([4.0, 3.0, 2.0, 1.0], 2.5, 6),
        ([4.0, 1.0, 3.0, 1.0], 1.0, 4),
        ([4.0, 3.0, 2.0, 1.0], 0.5, None),
        ([np.inf, np.nan, 0.1, np.inf], 0.5, 6),
    ],
)
def test_rounds_to_reach(losses, target, expected):
    assert rounds_to_reach(ROUNDS, np.array(losses), target) == expected


def test_reach_reads_the_mean_curve_and_every_seed():
    curves = np.array([[4.0, 2.0, 1.0, 1.0], [4.0, 4.0, 3.0, 1.0]])
    found = reach(ROUNDS, curves, 2.0)
    assert found.rounds == 6 and found.per_seed == (4, 8)


def test_a_diverged_seed_keeps_the_mean_from_the_target():
    found = reach(ROUNDS, np.array([[1.0] * 4, [np.inf] * 4]), 2.0)
    assert found.rounds is None and found.per_seed == (2, None)


def test_passing_the_target_on_the_way_to_divergence_does_not_count():
    found = reach(ROUNDS, np.array([[4.0, 1.0, np.inf, np.inf], [4.0, 1.0, 1.0, 1.0]]), 2.0)
    assert found.rounds is None and found.per_seed == (None, 4)


def test_final_loss_and_band():
    curves = np.array([[4.0, 1.0], [2.0, 3.0]])
    assert final_loss(curves) == 2.0
    band = seed_band(curves)
    np.testing.assert_array_equal(band, [[3.0, 2.0], [2.0, 1.0], [4.0, 3.0]])


@pytest.mark.filterwarnings("error")
def test_mean_of_losses_near_the_largest_float32():
    curves = np.full((2, 2), 3e38, np.float32)
    assert final_loss(curves) == seed_band(curves).mean[0] == curves[0, 0]
    assert reach(np.array([1, 2]), curves, 1.0).rounds is None


def test_speed_up():
    assert speed_up(300, 100) == 3.0
    assert speed_up(300, None) is None and speed_up(None, 100) is None


def test_num_diverged():
    assert num_diverged(np.array([1.0, np.inf, np.inf])) == 2
