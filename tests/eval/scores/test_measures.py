"""Measures by hand, and the rules that keep them honest."""

import numpy as np
import pytest

from eval.report.tables import aggregate_table, loss_ratio_scores
from eval.scores.measures import Network, measures, speed_up_scores, speed_ups
from eval.scores.statistics import bootstrap, iqm
from eval.scores.targets import BEST, targets
from tests.eval.made_up import contender, results

SLOW = [[8.0, 6.0, 4.0, 3.0], [8.0, 6.0, 5.0, 4.0]]
FAST = [[8.0, 3.0, 2.0, 1.0], [8.0, 4.0, 3.0, 2.0]]
NOWHERE = [[8.0, 8.0, 8.0, 8.0], [8.0, 8.0, 8.0, 8.0]]
DIVERGED = [[8.0, 2.0, np.inf, np.inf], [8.0, 3.0, 3.0, 3.0]]
CELL = results(
    contender("local_sgd", SLOW),
    contender("diloco", FAST),
    contender("copy", SLOW, kind="other"),
    contender("nowhere", NOWHERE, kind="other"),
    contender("diverged", DIVERGED, [np.inf, 3.0], kind="other"),
    contender("mine", FAST, kind="learned"),
)


def test_targets_are_the_baselines_final_training_losses():
    found = targets(CELL)
    assert {name: target.setter.name for name, target in found.items()} == {
        "local_sgd": "local_sgd",
        "diloco": "diloco",
        BEST: "diloco",
    }
    # The mean curve of DiLoCo is 8, 3.5, 2.5, 1.5.
    assert (found[BEST].loss, found[BEST].rounds) == (1.5, 4)
    # Only baselines set targets, however good others are; a diverged one does not, an untuned one is not best tuned.
    better = results(contender("local_sgd", DIVERGED), contender("mine", FAST, kind="learned"))
    assert targets(better) == {}
    assert targets(results(contender("local_sgd", SLOW, kind="other"))) == {}
    untuned = {"num_runs": 0, "extensions": 0, "interior": True, "trials": []}
    fixed = results(contender("local_sgd", SLOW), contender("sgd", FAST, tuning=untuned))
    assert targets(fixed)[BEST].setter.name == "local_sgd"


def test_cost_to_a_target():
    found = {m.name: m for m in measures(CELL, Network(latency=0.5, bandwidth=100.0, gradient_seconds=0.25))}
    cost = found["diloco"].to_target["local_sgd"]
    # The mean curve is 8, 3.5, 2.5, 1.5 against a target of 3.5: two rounds, with K = 2 workers, H = 2 steps.
    assert cost[:3] == (2, 2 * 2 * 2, 2000)
    assert cost.seconds == pytest.approx(2 * (0.5 + 10 + 2 * 0.25))
    assert cost.speed_up == 2.0
    assert found["nowhere"].to_target["local_sgd"] == (None,) * 5


def test_a_planted_copy_has_a_speed_up_of_one():
    scores = speed_up_scores([CELL, CELL], "copy", "local_sgd")
    assert scores.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    interval = bootstrap(iqm, scores)
    assert interval.low <= 1 <= interval.high and interval.point == 1
    assert loss_ratio_scores([CELL], "diloco")[0].tolist() == [[1.0], [1.0]]


def test_who_never_arrives_and_who_diverges_lower_the_aggregate():
    base = CELL.contenders[0]
    assert speed_ups(CELL.contenders[3], base).tolist() == [0.0, 0.0]
    # Seed 0 passed the target before it diverged, which does not count; seed 1 arrived at round 2.
    assert speed_ups(CELL.contenders[4], base).tolist() == [0.0, 2.0]
    assert loss_ratio_scores([CELL], "diverged")[0].tolist() == [[0.0], [pytest.approx(2 / 3)]]
    found = {m.name: m for m in measures(CELL)}
    assert found["diverged"].diverged == 0.5 and found["diverged"].final["test"]["loss"] == np.inf
    assert found["diverged"].to_target["local_sgd"].rounds is None


def test_the_aggregate_has_a_row_for_everyone():
    header, *body = aggregate_table([CELL, CELL]).rows
    assert [row[0] for row in body] == ["local_sgd", "diloco", "copy", "nowhere", "diverged", "mine"]
    rows = {row[0]: dict(zip(header, row, strict=True)) for row in body}
    over = "speed-up over Local SGD, IQM (95%)"
    assert rows["copy"][over] == "1.00 (1.00 to 1.00)" and rows["mine"][over] == "2.00 (2.00 to 2.00)"
    assert rows["nowhere"][over] == "0.00 (0.00 to 0.00)"
    assert rows["diverged"]["diverged runs"] == "50%" and rows["mine"]["tuning runs"] == "0"
    assert body[0][header.index("cells faster")] == "0 of 2" and body[5][header.index("cells faster")] == "2 of 2"


def test_cells_without_the_target_are_left_out_of_it():
    other = results(contender("sgd", SLOW), contender("mine", FAST, kind="learned"))
    assert speed_up_scores([CELL, other], "mine", "local_sgd").shape == (2, 1)
    assert speed_up_scores([CELL, other], "mine", BEST).shape == (2, 2)
    with pytest.raises(ValueError, match="different numbers of seeds"):
        speed_up_scores(
            [CELL, results(contender("local_sgd", SLOW[:1]), contender("mine", FAST[:1]))], "mine", "local_sgd"
        )
