"""Grids by hand: spacing, combinations, and how they grow around the best setting."""

import dataclasses

import pytest

from eval.compare.baselines import BASELINES, GROUPS, make_baselines
from eval.compare.grids import GridAxis, coarse, for_batch, grow, log_spaced, settings
from eval.protocol import TUNING_BUDGETS
from tests.eval.toy import TOY


def test_log_spaced_has_a_constant_ratio_and_its_ends():
    assert log_spaced(0.01, 1.0, 3) == (0.01, 0.1, 1.0)


def test_settings_are_all_combinations():
    grid = {"a": GridAxis((1.0, 2.0)), "b": GridAxis((3.0, 4.0))}
    assert settings(grid) == [
        {"a": 1.0, "b": 3.0},
        {"a": 1.0, "b": 4.0},
        {"a": 2.0, "b": 3.0},
        {"a": 2.0, "b": 4.0},
    ]
    assert settings({}) == [{}]


@pytest.mark.parametrize(
    ("axis", "best", "values", "near"),
    [
        (GridAxis((0.1, 0.2, 0.4)), 0.2, (0.1, 0.2, 0.4), [0.1, 0.2, 0.4]),
        (GridAxis((0.1, 0.2, 0.4)), 0.4, (0.1, 0.2, 0.4, 0.8), [0.2, 0.4, 0.8]),
        (GridAxis((0.1, 0.2, 0.4)), 0.1, (0.05, 0.1, 0.2, 0.4), [0.05, 0.1, 0.2]),
        (GridAxis((0.8, 0.9), decay=True), 0.9, (0.8, 0.9, 0.95), [0.8, 0.9, 0.95]),
        (GridAxis((0.5, 0.8), decay=True), 0.5, (0.0, 0.5, 0.8), [0.0, 0.5, 0.8]),
        (GridAxis((0.0, 0.5), decay=True), 0.0, (0.0, 0.5), [0.0, 0.5]),
        (GridAxis((0.3,)), 0.3, (0.3,), [0.3]),
        (GridAxis((1.0, 1.3, 1.69)), 1.69, (1.0, 1.3, 1.69, 2.197, 2.856, 3.713), [1.3, 1.69, 2.197, 2.856, 3.713]),
        (GridAxis((1.0, 1.4, 1.96)), 1.0, (0.3644, 0.5102, 0.7143, 1.0, 1.4, 1.96), [0.3644, 0.5102, 0.7143, 1.0, 1.4]),
    ],
)
def test_an_axis_grows_only_beyond_a_best_value_on_its_edge(axis, best, values, near):
    axes, pending = grow({"x": axis}, {"x": best})
    assert axes["x"].values == values
    assert [setting["x"] for setting in pending] == near


def test_the_neighbourhood_is_complete_in_every_axis():
    grid = {"a": GridAxis((1.0, 2.0, 4.0)), "b": GridAxis((1.0, 2.0, 4.0, 8.0))}
    _, pending = grow(grid, {"a": 4.0, "b": 2.0})
    assert {(s["a"], s["b"]) for s in pending} == {(a, b) for a in (2.0, 4.0, 8.0) for b in (1.0, 2.0, 4.0)}


@pytest.mark.parametrize(("tuning", "size"), list(TUNING_BUDGETS.items()))
def test_every_baseline_has_the_same_budget(tuning, size):
    everyone = make_baselines(dataclasses.replace(TOY, tuning=tuning), ("all", "optimizers"))
    tuned = [contender for contender in everyone if contender.name != "auto_diloco"]
    assert {len(settings(contender.grid)) for contender in tuned} == {size}
    assert [contender.name for contender in everyone] == list(BASELINES)
    assert {contender.kind for contender in everyone} == {"baseline"}
    # One setting for all problems.
    assert len(everyone) == len(tuned) + 1


def test_groups_hold_baselines_and_names_mix_with_them():
    assert all(name in BASELINES for names in GROUPS.values() for name in names)
    kinds = [GROUPS[name] for name in ("compressed", "gossip", "heterogeneous")]
    # What they are measured against stands beside them.
    assert all(names[:2] == GROUPS["targets"] for names in kinds) and set().union(*kinds) < set(GROUPS["rivals"]) | {
        "local_sgd",
        "diloco",
    }
    some = make_baselines(TOY, ("diloco", "targets", "sgd"))
    assert [contender.name for contender in some] == ["sgd", "local_sgd", "diloco"]
    with pytest.raises(ValueError, match="'dilco' is unknown; did you mean 'diloco'"):
        make_baselines(TOY, ("dilco",))


def test_coarse_grids():
    assert coarse({"a": GridAxis(tuple(range(1, 10)))})["a"].values == (2, 5, 8)
    assert coarse({"a": GridAxis((1.0, 2.0, 3.0)), "b": GridAxis((4.0, 5.0, 6.0))})["b"].values == (5.0,)
    assert coarse({}) == {}


def test_rates_follow_the_batch():
    """Four times the examples: four times SGD's rate, twice Adam's; and back."""
    axis = GridAxis((0.01, 0.1, 1.0))
    assert for_batch(axis, 4, adaptive=False).values == (0.04, 0.4, 4.0)
    assert for_batch(axis, 4, adaptive=True).values == (0.02, 0.2, 2.0)
    assert for_batch(for_batch(axis, 4, adaptive=True), 0.25, adaptive=True) == axis
    with pytest.raises(ValueError, match="times=0: use a positive"):
        for_batch(axis, 0, adaptive=True)
    large = dataclasses.replace(TOY, num_workers=8, num_local_steps=4, batch_size=64)
    for name, times in (("dp_asgd", 4), ("dp_nadamw", 2)):
        at_reference, moved = (
            BASELINES[name](protocol).grid["lr"].values
            for protocol in (dataclasses.replace(large, batch_size=16), large)
        )
        assert moved == pytest.approx([times * rate for rate in at_reference], rel=1e-3)
