"""Losses over the anchor's along several axes."""

import dataclasses

import numpy as np
import pytest

from eval.report import axes_figure as module
from eval.report.axes_figure import axes_figure
from eval.report.report import AXES_TITLE, report_sections
from eval.scores.network import DEFAULT_NETWORK
from eval.sweep.axes import axis_plan
from eval.sweep.sweep import Sweep
from tests.eval.made_up import contender, results
from tests.eval.toy import TOY as TOY_PROTOCOL

TOY = dataclasses.replace(TOY_PROTOCOL, task="fmnist8_mlp32")
CURVES = np.linspace(3, 1, 6) + np.arange(3)[:, None] / 10
ANCHOR = {"anchor_of": ["mine"]}


def sweep_of(axis, factors, with_anchor=True):
    plan = axis_plan(axis, TOY, values=tuple(range(1, len(factors) + 1)))
    finished = {}
    for cell, factor in zip(plan.cells, factors, strict=True):
        beside = [contender("mine_anchor", CURVES, kind="anchor", details=ANCHOR)] if with_anchor else []
        mine = contender("mine", factor * CURVES, kind="learned")
        finished[cell.name] = results(mine, *beside, protocol=cell.protocol)
    return Sweep(plan, finished, {}, ())


def test_ratios_are_geometric_means_over_the_seeds():
    sweep = sweep_of("num_workers", (0.5, 2.0))
    x, ratios = module._ratios(sweep, "mine", "training")
    assert x == [1, 2]
    np.testing.assert_allclose(ratios, [0.5, 2.0], rtol=1e-6)
    assert module._ratios(sweep, "mine", "test")[0] == [1, 2]


def test_a_cell_that_diverged_or_lacks_the_anchor_has_no_point():
    assert module._ratios(sweep_of("num_workers", (np.inf, 0.5)), "mine", "training")[0] == [2]
    assert module._ratios(sweep_of("num_workers", (0.5,), with_anchor=False), "mine", "training") == ([], [])


@pytest.mark.parametrize("axes", [("num_workers",), ("num_workers", "num_local_steps", "batch_size", "num_rounds")])
def test_a_report_of_axes_draws_them_together(axes):
    sweeps = [sweep_of(axis, (0.5, 0.9)) for axis in axes]
    figure = axes_figure(sweeps)
    assert figure is not None and figure.count('id="axes_') == len(axes)


def test_without_anchors_there_is_no_figure():
    sweep = sweep_of("num_workers", (0.5, 0.9), with_anchor=False)
    assert axes_figure([sweep]) is None
    assert AXES_TITLE not in [section.title for section in report_sections([sweep], DEFAULT_NETWORK)]
