"""Shifts by hand, lines of known slope, and one sweep of the toy task."""

import dataclasses
import json

import numpy as np
import pytest

from eval.compare.grids import settings
from eval.ood.shifts import COLOUR_SHIFTS, SHIFTS, blur, noise, rotation, shifted_versions
from eval.ood.sweep import CHECKPOINTS, OodSweep, best_setting, line, prepare, run
from eval.ood.table import ood_record, ood_table
from tests.eval.toy import TOY, toy_data, toy_family

RNG = np.random.default_rng(0)
IMAGES = RNG.random((3, 5, 5, 2)).astype(np.float32)


def test_quarter_turns_are_exact_and_small_ones_conserve_what_stays_inside():
    np.testing.assert_allclose(rotation(90)(IMAGES), np.rot90(IMAGES, 1, (1, 2)), atol=1e-5)
    np.testing.assert_allclose(rotation(-90)(IMAGES), np.rot90(IMAGES, -1, (1, 2)), atol=1e-5)
    np.testing.assert_allclose(rotation(0)(IMAGES), IMAGES, atol=1e-6)
    # A linear ramp through the centre is turned exactly, away from the margin.
    column = np.arange(9) - 4.0
    ramp = np.broadcast_to(column / 20 + 0.5, (9, 9))[None, :, :, None].astype(np.float32)
    turned = rotation(30)(ramp)[0, 3:6, 3:6, 0]
    row = np.arange(3)[:, None] - 1.0
    expected = (-np.sin(np.pi / 6) * row + np.cos(np.pi / 6) * (np.arange(3)[None] - 1.0)) / 20 + 0.5
    np.testing.assert_allclose(turned, expected, atol=1e-5)


def test_noise_has_its_size_and_is_the_same_every_time():
    grey = np.full((50, 8, 8, 1), 0.5, np.float32)
    noisy = noise(0.1)(grey)
    np.testing.assert_array_equal(noisy, noise(0.1)(grey))
    assert abs(noisy.std() - 0.1) < 0.003 and abs(noisy.mean() - 0.5) < 0.005


def test_blur_spreads_a_point_as_a_gaussian_and_keeps_a_plane():
    point = np.zeros((1, 11, 11, 1), np.float32)
    point[0, 5, 5] = 1
    blurred = blur(1.0)(point)[0, :, :, 0]
    profile = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    np.testing.assert_allclose(blurred[2:9, 2:9], np.outer(profile, profile) / profile.sum() ** 2, rtol=1e-5)
    flat = np.full((1, 6, 6, 1), 0.3, np.float32)
    np.testing.assert_allclose(blur(1.0)(flat), flat, rtol=1e-6)


def test_shifted_versions_keep_layout_and_colour_has_one_more():
    grey = RNG.integers(0, 256, (4, 6, 6), np.uint8)
    assert set(shifted_versions(grey)) == set(SHIFTS)
    assert all(x.shape == grey.shape and x.dtype == np.uint8 for x in shifted_versions(grey).values())
    colour = RNG.integers(0, 256, (4, 6, 6, 3), np.uint8)
    found = shifted_versions(colour)
    assert set(found) == set(SHIFTS) | set(COLOUR_SHIFTS)
    np.testing.assert_array_equal(found["channels"], colour[..., [2, 0, 1]])
    with pytest.raises(ValueError, match="float32 and shape .* use uint8"):
        shifted_versions(IMAGES)


def made_up(x, y, valid=None, name="made_up"):
    x, y = np.asarray(x, np.float32)[:, None], np.asarray(y, np.float32)[:, None]
    valid = 1 - x if valid is None else np.asarray(valid, np.float32)[:, None]
    settings = tuple({"lr": float(i)} for i in range(len(x)))
    return OodSweep(name, settings, valid, x, {"up": y + 0.05, "down": y - 0.05}, 0.1)


def test_a_known_line_through_the_runs_that_learned():
    """y = 0.2 + 0.5 x; one run is at chance and one has diverged."""
    x = [0.3, 0.5, 0.7, 0.1, 0.6]
    sweep = made_up(x, [0.35, 0.45, 0.55, 0.0, 0.0], [0.7, 0.5, 0.3, 2.0, np.inf])
    found = line(sweep)
    assert found.runs == 3
    assert found.slope == pytest.approx(0.5, rel=1e-5) and found.at(0.8) == pytest.approx(0.6, rel=1e-5)
    assert best_setting(sweep) == 2
    assert np.isnan(line(made_up([0.5, 0.6], [0.4, 0.5])).slope)


def test_the_table_by_hand():
    good = made_up([0.3, 0.5, 0.7], [0.35, 0.45, 0.55], name="good")
    other = made_up([0.4, 0.6, 0.8], [0.2, 0.3, 0.4], name="other")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ood_table([good, other], TOY).splitlines()[:4]]
    assert rows[0][-1] == "shifted at 70.0"
    assert rows[2] == ["good", "70.0", "55.0", "60.0", "50.0", "0.50", "3", "55.0"]
    assert rows[3] == ["other", "80.0", "40.0", "45.0", "35.0", "0.50", "3", "35.0"]


def test_a_sweep_of_the_toy_task_measures_every_setting():
    protocol = dataclasses.replace(TOY, num_rounds=4, num_seeds=2, tuning="coarse", eval_every=4)
    prepared = prepare(protocol, (), ("sgd",), (), toy_family())
    # Of 2x2 images a quarter turn is a permutation: shifted so, the split must be scored as such.
    data = toy_data()
    turned = np.rot90(data["test"]["image"], 1, (1, 2))
    (sweep,) = run(prepared._replace(shifted={"same": data["test"]["image"], "turned": turned}))
    assert sweep.in_distribution.shape == sweep.valid_loss.shape == (9, 2) and sweep.guess == pytest.approx(1 / 3)
    np.testing.assert_array_equal(sweep.out_of_distribution["same"], sweep.in_distribution)
    assert np.any(sweep.out_of_distribution["turned"] != sweep.in_distribution)
    assert sweep.in_distribution.max() > 0.6
    record = json.loads(json.dumps(ood_record([sweep], protocol, {}), allow_nan=False))
    assert np.shape(record["sweeps"][0]["in_distribution"]) == (9, 2)


def test_a_learned_optimizer_stands_beside_its_anchor_with_as_many_settings():
    prepared = prepare(dataclasses.replace(TOY, tuning="coarse"), CHECKPOINTS, ("sgd",), (), toy_family())
    names = ["lopt_generalist_tuned", "lagg_any_tuned"]
    assert [c.name for c in prepared.contenders] == ["sgd", *names, *(f"{name}_anchor" for name in names)]
    assert {len(settings(c.grid)) for c in prepared.contenders} == {9}


def test_families_without_images_are_refused():
    with pytest.raises(ValueError, match="task='quadratics32' has no images with labels to shift: use one"):
        prepare(dataclasses.replace(TOY, task="quadratics32"), (), ("sgd",))
    with pytest.raises(ValueError, match="nobody takes part"):
        prepare(TOY, (), (), (), toy_family())
