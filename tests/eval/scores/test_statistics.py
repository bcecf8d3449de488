"""Aggregates against the formulas as published: Agarwal et al. 2021 (rliable uses SciPy's trim_mean and
mannwhitneyu, written out here)."""

import numpy as np
import pytest

from eval.scores.statistics import bootstrap, iqm, performance_profile, probability_of_improvement

RNG = np.random.default_rng(3)


def trim_mean(scores, share):
    """SciPy's definition: int(share n) observations are cut from each end of the sorted array."""
    ordered = sorted(float(x) for x in np.ravel(scores))
    cut = int(share * len(ordered))
    kept = ordered[cut : len(ordered) - cut]
    return sum(kept) / len(kept)


def mann_whitney(x, y):
    return sum((a > b) + 0.5 * (a == b) for a in x for b in y) / (len(x) * len(y))


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (5, 7), (10, 26)])
def test_iqm_is_the_25_percent_trimmed_mean(shape):
    scores = RNG.lognormal(size=shape)
    assert abs(iqm(scores) - trim_mean(scores, 0.25)) < 1e-12


def test_iqm_by_hand():
    assert iqm(np.array([[1.0, 2.0], [3.0, 100.0]])) == 2.5
    assert iqm(np.array([[1.0, 2.0], [3.0, np.inf]])) == 2.5


def test_probability_of_improvement_is_mann_whitneys_u_over_its_maximum():
    x, y = RNG.integers(0, 4, (5, 6)), RNG.integers(0, 4, (7, 6))
    expected = np.mean([mann_whitney(x[:, task], y[:, task]) for task in range(6)])
    assert abs(probability_of_improvement(x, y) - expected) < 1e-12
    assert probability_of_improvement(x, x) == pytest.approx(0.5)
    assert probability_of_improvement(x + 10, y) == 1


def test_performance_profile_counts_runs_above():
    scores = np.array([[0.0, 1.0], [2.0, 3.0]])
    assert performance_profile(scores, [-1, 0, 1, 2.5, 3]).tolist() == [1, 0.75, 0.5, 0.25, 0]


def test_bootstrap_is_reproducible_and_wider_over_tasks():
    scores = RNG.normal(size=(4, 1)) * 0.01 + np.arange(8.0)
    assert bootstrap(iqm, scores) == bootstrap(iqm, scores)
    seeds_only, tasks_too = bootstrap(iqm, scores, resample_tasks=False), bootstrap(iqm, scores)
    assert seeds_only.point == tasks_too.point == iqm(scores)
    assert seeds_only.high - seeds_only.low < 0.1 < tasks_too.high - tasks_too.low
    assert tasks_too.low < tasks_too.point < tasks_too.high


def test_bootstrap_of_the_mean_has_its_closed_form_width():
    # One task: the bootstrap standard error of the mean is the standard deviation over sqrt(n).
    scores = RNG.normal(size=(400, 1))
    interval = bootstrap(lambda s: float(np.mean(s)), scores, num_samples=4000)
    expected = 2 * 1.96 * scores.std() / np.sqrt(400)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.06)


def test_strata_are_kept():
    # Runs never move to another task: with one value per task nothing varies.
    scores = np.tile(np.arange(5.0), (3, 1))
    interval = bootstrap(lambda s: float(np.mean(s)), scores, resample_tasks=False, num_samples=50)
    assert interval == (2.0, 2.0, 2.0)


def test_two_samples_keep_their_tasks_together():
    x = np.arange(6.0)[None] + np.zeros((3, 1))
    interval = bootstrap(probability_of_improvement, x, x - 0.5, num_samples=100)
    assert interval == (1.0, 1.0, 1.0)
