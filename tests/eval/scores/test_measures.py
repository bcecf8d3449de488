"""Measures by hand, and the rules that keep them honest."""

import numpy as np
import pytest

from eval.report.tables import outcome_table, speed_table
from eval.scores.measures import measures, speed_ups
from eval.scores.network import Network
from eval.scores.rivals import (
    best_validated,
    final_test_losses,
    loss_ratios,
    mean_speed_up,
    own_anchor,
    speed_up_scores,
    target_setter,
)
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
    assert cost[:4] == (2, 2 * 2 * 2, 2000, 2000)
    assert cost.seconds == pytest.approx(2 * (0.5 + 10 + 2 * 0.25))
    assert cost.speed_up == 2.0
    assert found["nowhere"].to_target["local_sgd"] == (None,) * 6


def test_a_planted_copy_has_a_speed_up_of_one():
    scores = speed_up_scores([CELL, CELL], "copy", target_setter("local_sgd"))
    assert scores.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    interval = bootstrap(iqm, scores)
    assert interval.low <= 1 <= interval.high and interval.point == 1
    assert loss_ratio_scores([CELL], "diloco").tolist() == [[1.0], [1.0]]


def test_who_never_arrives_and_who_diverges_lower_the_aggregate():
    base = CELL.contenders[0]
    assert speed_ups(CELL.contenders[3], base).tolist() == [0.0, 0.0]
    # Seed 0 passed the target before it diverged, which does not count; seed 1 arrived at round 2.
    assert speed_ups(CELL.contenders[4], base).tolist() == [0.0, 2.0]
    assert loss_ratio_scores([CELL], "diverged").tolist() == [[0.0], [pytest.approx(2 / 3)]]
    found = {m.name: m for m in measures(CELL)}
    assert found["diverged"].diverged == 0.5 and found["diverged"].final["test"]["loss"] == np.inf
    assert found["diverged"].to_target["local_sgd"].rounds is None


def loss_ratio_scores(cells, name):
    return loss_ratios(*final_test_losses(cells, name, target_setter("diloco")))


def rows_of(table):
    header, *body = table.rows
    assert [row[0] for row in body] == ["local_sgd", "diloco", "copy", "nowhere", "diverged", "mine"]
    return {row[0]: dict(zip(header, row, strict=True)) for row in body}


def test_the_tables_over_all_cells_have_a_row_for_everyone():
    speed, outcome = rows_of(speed_table([CELL, CELL])), rows_of(outcome_table([CELL, CELL]))
    over = "over Local SGD, IQM (95%)"
    assert speed["copy"][over] == "1.00 (1.00 to 1.00)" and speed["mine"][over] == "2.00 (2.00 to 2.00)"
    assert speed["nowhere"][over] == "0.00 (0.00 to 0.00)"
    assert outcome["diverged"]["diverged runs"] == "50%" and outcome["mine"]["tuning runs"] == "0"


def test_cells_faster_agree_with_the_speed_up_beside_them():
    # Its mean curve meets the target one round earlier, two of three seeds much later: slower by the seeds.
    base = [[4.0, 3.0, 2.0, 1.0]] * 3
    own = [[0.0, 0.0, 0.0, 0.0], [4.0, 3.0, 2.0, 1.4], [4.0, 3.0, 2.0, 1.4]]
    cell = results(contender("local_sgd", base), contender("mine", own, kind="learned"))
    assert {m.name: m for m in measures(cell)}["mine"].to_target["local_sgd"].speed_up == 1.0
    header, _, row = speed_table([cell]).rows
    place = header.index("over Local SGD, IQM (95%)")
    assert float(row[place].split()[0]) > 1 and row[place + 1] == "1 of 1"
    slower = results(contender("local_sgd", base), contender("mine", [base[0], [4.0] * 4, base[0]], kind="learned"))
    _, _, row = speed_table([slower]).rows
    assert float(row[place].split()[0]) < 1 and row[place + 1] == "0 of 1"


def test_against_its_own_anchor():
    cell = results(
        contender("local_sgd", SLOW),
        contender("mine", FAST, kind="learned"),
        contender("mine_anchor", SLOW, kind="anchor", details={"anchor_of": ["mine", "other"], "recipe": "DiLoCo"}),
    )
    assert speed_up_scores([cell, CELL], "mine", own_anchor("mine")).tolist() == [[2.0], [2.0]]
    assert own_anchor("local_sgd")(cell) is None and own_anchor("mine")(CELL) is None
    _, mine, anchor = cell.contenders
    assert mean_speed_up(mine, anchor) == 2.0 and mean_speed_up(anchor, mine) is None
    header, *body = speed_table([cell]).rows
    assert [row[header.index("over its anchor, IQM (95%)")] for row in body] == ["-", "2.00 (2.00 to 2.00)", "-"]


def test_the_baseline_that_validation_chooses():
    untuned = {"num_runs": 0, "extensions": 0, "interior": True, "trials": []}
    cell = results(
        contender("local_sgd", SLOW, [0.5, 0.7]),
        contender("diloco", FAST, [0.4, 0.6]),
        contender("adam", FAST, [0.1, np.inf]),
        contender("adam_one_setting", FAST, [0.1, 0.1], tuning=untuned),
        contender("mine", FAST, [0.2, 0.3], kind="learned"),
    )
    chosen = best_validated(cell)
    assert chosen is not None and chosen.name == "diloco"
    own, theirs = final_test_losses([cell, CELL], "mine", best_validated)
    np.testing.assert_allclose(own[:, 0], [0.2, 0.3])
    np.testing.assert_allclose(theirs[:, 0], [0.4, 0.6])
    assert best_validated(results(contender("mine", FAST, kind="learned"))) is None


def test_cells_without_the_target_are_left_out_of_it():
    other = results(contender("sgd", SLOW), contender("mine", FAST, kind="learned"))
    assert speed_up_scores([CELL, other], "mine", target_setter("local_sgd")).shape == (2, 1)
    assert speed_up_scores([CELL, other], "mine", target_setter(BEST)).shape == (2, 2)
    fewer = results(contender("local_sgd", SLOW[:1]), contender("mine", FAST[:1]))
    with pytest.raises(ValueError, match="different numbers of seeds"):
        speed_up_scores([CELL, fewer], "mine", target_setter("local_sgd"))
