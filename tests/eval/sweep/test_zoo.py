"""The zoo: who takes part, what each row is told, and the numbers of the table against hand-made results."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import eval.compare.zoo as zoo
from eval.compare.grids import settings
from eval.report.zoo_table import zoo_table
from eval.results import ContenderResult, Results
from eval.sweep.plan import Cell, SweepPlan
from eval.sweep.sweep import Sweep
from eval.sweep.zoo import ZOO_PROTOCOL, make_zoo, zoo_plan
from learned_opt.algorithms.round import simulate
from learned_opt.base import LearnedOptimizer

RECORDED = Path(__file__).parents[2] / "data" / "reference_updates"
CELO = f"celo:{RECORDED / 'celo_released_theta.npz'}"
PROTOCOL = dataclasses.replace(ZOO_PROTOCOL, task="toy", num_rounds=8, batch_size=4, eval_every=1)


def telling_lopt() -> LearnedOptimizer:
    """Its step is theta over the number of updates that it was told."""

    def transform(theta, num_steps=None):
        if num_steps is None:
            raise ValueError("num_steps=None: needed")
        step = theta["rate"] / jnp.asarray(num_steps, jnp.float32)
        steps = optax.stateless(lambda updates, params: jax.tree.map(lambda g: jnp.full_like(g, -step), updates))
        return optax.with_extra_args_support(steps)

    config = {"architecture": "telling"}
    return LearnedOptimizer(lambda key: {"rate": jnp.float32(1)}, transform, config, reads="gradient")


MEMBER = zoo.Member("telling", telling_lopt(), {"rate": jnp.float32(8)}, {"card": {}})


def test_rows_are_told_what_they_are_called():
    assert zoo.is_told_the_horizon(MEMBER)
    rows = zoo.rows_of(MEMBER, PROTOCOL)
    steps = {}
    for row in rows:
        algorithm = simulate(row.make({name: jnp.float32(value) for name, value in settings(row.grid)[0].items()}), 1)
        state = algorithm.init({"w": jnp.zeros(2)})
        batch = {"x": jnp.zeros((1, 1, 4))}
        state, _ = algorithm.round(lambda params, key, batch: jnp.sum(params["w"]), state, jax.random.key(0), batch)
        steps[row.name] = -float(algorithm.params(state)["w"][0])
    assert steps == {"telling": 1, "telling_tuned": pytest.approx(0.1 * 10 ** (2 / 26), rel=1e-3)} | {
        "telling_quarter": 4,
        "telling_fourfold": 0.25,
    }
    assert len({row.make for row in rows}) == 1
    assert [len(settings(row.grid)) for row in rows] == [1, 9, 1, 1]


def test_schedule_free_is_evaluated_at_its_average():
    # optax's AdamW raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        _check_schedule_free()


def _check_schedule_free():
    row = next(row for row in zoo.hand_made(PROTOCOL) if row.name == "schedule_free")
    algorithm = row.make({"lr": 0.1, "weight_decay": 0.0})
    state = simulate(algorithm, 1).init({"w": jnp.ones(2)})
    transform = optax.contrib.schedule_free_adamw(0.1)
    opt_state, params = transform.init({"w": jnp.ones(2)}), {"w": jnp.ones(2)}
    for step in range(3):
        batch = {"x": jnp.zeros((1, 1, 4))}
        state, _ = simulate(algorithm, 1).round(
            lambda params, key, batch: jnp.sum(params["w"] ** 2), state, jax.random.key(step), batch
        )
        updates, opt_state = transform.update(jax.tree.map(lambda w: 2 * w, params), opt_state, params)
        params: Any = optax.apply_updates(params, updates)
    right: Any = optax.contrib.schedule_free_eval_params(opt_state, params)
    found = algorithm.params(state)["w"]
    np.testing.assert_allclose(found, right["w"], rtol=1e-6)
    assert np.all(np.abs(np.asarray(found) - params["w"]) > 1e-3)


def test_plan_of_the_whole_zoo():
    plan = zoo_plan(("xor_clusters", "random_features"), weights=(f"released={CELO}",), long="xor_clusters")
    assert [cell.name for cell in plan.cells] == ["xor_clusters", "random_features", "xor_clusters_long"]
    assert [cell.protocol.num_rounds for cell in plan.cells] == [500, 500, 20_000]
    everyone = make_zoo(plan)
    names = [contender.name for contender in everyone(plan, plan.cells[0])]
    assert names[:4] == ["dp_adamw", "nadamw", "dp_muon", "schedule_free"]
    assert names[4:6] == ["adafac_generalist", "adafac_generalist_tuned"]
    assert names[10:14] == ["released", "released_tuned", "released_quarter", "released_fourfold"]
    assert names[14:] == [f"{name}_anchor" for name in zoo.SHIPPED]
    long = [contender.name for contender in everyone(plan, plan.cells[-1])]
    assert long == ["dp_adamw", *zoo.SHIPPED, "released"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": ("celo",)}, "weights 'celo': use KIND:FILE, with a KIND of learnable_sgd"),
        ({"weights": ("velo:x.npz",)}, "kind='velo': "),
        ({"weights": (CELO.replace("celo:", "mlp_lopt:"),)}, "lacks leaf 'mlp/~/linear_0/b'"),
        ({"suite": ("xor_cluster",)}, "unknown task family 'xor_cluster'"),
        (
            {"protocol": dataclasses.replace(ZOO_PROTOCOL, num_workers=4)},
            "num_workers=4: use 1, the zoo is of one mach",
        ),
        (
            {"checkpoints": ("lagg_fmnist8_k8_h4",)},
            "lagg_fmnist8_k8_h4: built for 8 workers; the zoo is of one machine",
        ),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        zoo_plan(**arguments)
    assert "\n" not in str(error.value)


def result(name, final, kind: Any = "baseline", runs=0, card=None) -> ContenderResult:
    """Curves fall linearly from 2 to the final loss over 4 points."""
    losses = np.asarray(final, np.float32)
    curves = np.linspace(2, np.where(np.isfinite(losses), losses, 2), 4, axis=1).astype(np.float32)
    curves[~np.isfinite(losses)] = np.inf
    tuning = {"num_runs": runs, "seconds": 2.5 * runs, "extensions": 0, "interior": True, "trials": []}
    final_losses = {split: {"loss": losses} for split in ("train", "test", "inner_valid")}
    details = {} if card is None else {"card": card}
    return ContenderResult(name, kind, details, {}, tuning, 4, np.arange(1, 5), curves, curves, final_losses)


def test_table_against_hand_made_results():
    adamw, runs = [0.5, 0.5], 9
    rows = [
        result("dp_adamw", adamw, runs=runs),
        result("mine", [0.25, 0.25], "learned", card={"meta_train_seconds": 120}),
        result("mine_quarter", [0.5, 0.5], "learned", card={}),
        result("mine_fourfold", [1.0, 1.0], "learned", card={}),
        result("lost", [np.inf, 0.5], "learned", card={"published_kind": "celo"}),
        result("sought", adamw, "learned", card={"search": {"generations": 3, "population": 4, "numbers": 2}}),
    ]
    cells = {f"cell{i}": Results(PROTOCOL, {}, tuple(rows)) for i in range(4)}
    cells["cell0_long"] = Results(PROTOCOL, {}, (result("dp_adamw", adamw), result("mine", [1.0, 1.0], "learned")))
    plan = SweepPlan("suite", "zoo", tuple(Cell(name, PROTOCOL) for name in cells))
    lines = [line.strip("| ").split(" | ") for line in zoo_table(Sweep(plan, cells, {}, ())).splitlines()[2:]]
    table = {line[0]: line[1:] for line in lines}
    assert list(table) == ["dp_adamw", "mine", "lost", "sought"]
    assert table["dp_adamw"] == ["1", "1", "1", "-", "-", "-", "1", "0%", "36, 90", "none"]
    # From 2 to 0.25 in equal steps, 0.5 is first reached at the last of the four points.
    expected = ["1.00 (1.00 to 1.00)", "2.00 (2.00 to 2.00)", "2.00 (2.00 to 2.00)", "4 of 4"]
    assert table["mine"] == [*expected, "1.00", "0.50", "0.50", "0%", "0", "2 min"]
    assert table["lost"][3] == "0 of 4" and table["lost"][-3:] == ["50%", "0", "its authors'"]
    assert table["sought"][-1] == "12 settings of 2 numbers"
    with pytest.raises(ValueError, match="no cell of the zoo is finished"):
        zoo_table(Sweep(plan, {}, {}, ()))
