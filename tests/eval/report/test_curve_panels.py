"""What a panel shows: its range, and labels of targets that can be read."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from eval.report import curve_panels
from eval.report.curve_panels import _draw_panel, _draw_targets, diagnostic_curves
from eval.report.line_styles import line_styles
from eval.scores.targets import Target, targets
from tests.eval.made_up import contender, results
from tests.eval.toy import TOY

FALLING = np.geomspace(2.0, 0.02, 20)[None]


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def draw(axes, *contenders, label="training loss", peaks_count=False):
    cell = results(*contenders, protocol=TOY)
    curve = lambda c: (c.rounds, c.train_loss)  # noqa: E731
    _draw_panel(axes, cell, curve, line_styles(list(contenders)), label, peaks_count)
    return cell


@pytest.mark.parametrize("first", [2.0, 1e19])
def test_a_run_that_blows_up_leaves_the_panel_to_the_others(axes, first):
    blown_up = contender("diloco", np.geomspace(first, 1e20, 20)[None])
    draw(axes, contender("local_sgd", FALLING), blown_up, contender("slowmo", FALLING))
    assert axes.get_ylim() == pytest.approx((0.93 * 0.02, 1.07 * 2.0), rel=1e-5)


def test_a_metric_that_rises_is_shown_to_its_end(axes):
    draw(axes, contender("local_sgd", np.linspace(0.01, 0.9, 20)[None]), label="accuracy")
    assert axes.get_ylim()[0] < 0.01 and axes.get_ylim()[1] > 0.9


def test_near_targets_share_a_label(axes):
    cell = draw(axes, contender("local_sgd", FALLING), contender("diloco", 0.9 * FALLING))
    (first, *_) = targets(cell).values()
    goals = [Target(name, first.setter, loss, 5) for name, loss in zip(targets(cell), (0.1, 0.099, 0.03), strict=True)]
    _draw_targets(axes, goals, 1)
    assert [text.get_text() for text in axes.texts] == ["Local SGD, DiLoCo", "best tuned"]


@pytest.mark.parametrize(("peak", "shown"), [(50.0, True), (1e9, False)])
def test_the_peak_of_a_diagnostic_is_shown_unless_it_has_blown_up(axes, peak, shown):
    curve = contender("local_sgd", np.array([[1.0, peak, 2.0]]))
    draw(axes, curve, label="fisher trace", peaks_count=True)
    assert (axes.get_ylim()[1] > peak) == shown and axes.get_ylim()[1] > 1


@pytest.mark.parametrize(("name", "lines"), [("sharpness_times_rate", [2.0]), ("sharpness", [])])
def test_what_has_a_bound_is_drawn_against_it(monkeypatch, name, lines):
    figure = plt.figure()
    monkeypatch.setattr(curve_panels, "draw_svg", lambda draw, width, height: draw(figure) or "")
    cell = results(contender("local_sgd", FALLING, diagnostics={name: 0.1 * FALLING}), protocol=TOY)
    diagnostic_curves({"one": cell}, name)
    (axes,) = figure.axes
    dotted = [float(np.ravel(line.get_ydata())[0]) for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted == lines and (not lines or axes.get_ylim()[1] > 2)
    plt.close(figure)


def test_what_is_undefined_for_everyone_is_not_drawn():
    """As the rank of a model without matrices, or curvature times a rate that nobody has."""
    cell = results(contender("local_sgd", FALLING, diagnostics={"interference_gap": np.nan * FALLING}), protocol=TOY)
    assert diagnostic_curves({"one": cell}, "interference_gap") is None
