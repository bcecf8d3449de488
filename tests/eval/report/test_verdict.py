"""The verdict is a sentence per learned optimizer, and says what the numbers say."""

import numpy as np

from eval.report.verdict import verdict
from tests.eval.made_up import contender, results

SLOW = [[8.0, 6.0, 4.0, 3.0], [8.0, 6.0, 5.0, 4.0]]
FAST = [[8.0, 3.0, 2.0, 1.0], [8.0, 4.0, 3.0, 2.0]]
NOWHERE = [[8.0, 8.0, 8.0, 8.0], [8.0, 8.0, 8.0, 8.0]]


def cell(curve, test_loss=0.5, anchor=None):
    extra = [] if anchor is None else [contender("mine_anchor", anchor, kind="anchor", details={"anchor_of": ["mine"]})]
    return results(
        contender("local_sgd", SLOW, [0.6, 0.6]), contender("mine", curve, [test_loss] * 2, kind="learned"), *extra
    )


def test_faster_than_baselines_and_level_with_its_anchor():
    (said,) = verdict([cell(FAST, anchor=FAST), cell(FAST, test_loss=0.7, anchor=FAST)])
    assert said.startswith("mine over 2 cells: 2.0 times as fast as tuned Local SGD (95% interval 2.0 to 2.0);")
    assert "1.0 times as fast as its own anchor, the same step with nothing learned (95% interval 1.0 to 1.0)" in said
    assert said.endswith("lowest validation loss in 1 of 2.")


def test_chance_and_defeat_are_named():
    (said,) = verdict([cell([FAST[0], NOWHERE[1]])])
    assert "in one cell: 1.0 times as fast as tuned Local SGD (95% interval 0.00 to 2.0, which may be chance)" in said
    (said,) = verdict([cell(NOWHERE)])
    assert "never at the final training loss of tuned Local SGD" in said and "anchor" not in said
    (said,) = verdict([cell([FAST[0], [8.0, np.inf, np.inf, np.inf]])])
    assert said.endswith("50% of its runs diverged.")


def test_without_learned_optimizers():
    baselines = results(contender("local_sgd", SLOW), contender("diloco", FAST))
    assert verdict([baselines]) == ["Baselines alone: diloco ends with the lowest training loss in 1 of 1 cells."]
    other = results(contender("local_sgd", SLOW), contender("somebody", FAST, kind="other"))
    assert verdict([other])[0].startswith("somebody in one cell: 2.0 times as fast as tuned Local SGD")
    assert verdict([]) == []
