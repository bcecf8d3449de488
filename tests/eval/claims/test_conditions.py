"""Learned and hand-made server optimizers under every condition."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eval.claims.conditions import CONDITIONS, FULL, GOSSIP
from eval.claims.run_conditions import SHIPPED, conditions_table, prepare
from eval.compare.checkpoints import read_checkpoint
from eval.compare.learned import local_transform
from eval.report.spending import loss_against_bytes
from learned_opt.algorithms.round import dense_bytes, simulate
from learned_opt.architectures.lagg_a import lagg_a
from learned_opt.architectures.lopt_a import lopt_a
from learned_opt.checkpoint import save
from tests.eval.made_up import contender, results
from tests.eval.toy import TOY, toy_family

FAMILY = toy_family()
TASK = FAMILY.task({}, {"train": FAMILY.data["train"]})
PARAMS = TASK.init(jax.random.key(0))
CURVE = [[3.0, 2.0], [3.0, 1.0]]
K = 8


def server_of(name) -> tuple[Any, Any, bool]:
    """(the workers' optimizer, server optimizer, whether it reads every worker)."""
    if name == "diloco":
        return optax.sgd(0.1), optax.sgd(0.7, 0.9, nesterov=True), False
    loaded = read_checkpoint(name)
    server = loaded.lopt.transform(jax.tree.map(jnp.asarray, loaded.theta), num_steps=10)
    return local_transform(name, loaded), server, loaded.lopt.reads == "workers"


SLOW = pytest.mark.slow


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", [*(pytest.param(name, marks=SLOW) for name in SHIPPED[:-1]), SHIPPED[-1]])
def test_every_learned_optimizer_takes_part_under_every_condition(name, condition):
    workers, server, reads_workers = server_of(name)
    if reads_workers and condition in GOSSIP:
        pytest.skip("it reads every worker")
    algorithm = simulate(CONDITIONS[condition](workers, server, K), K)

    def one_round(key):
        batches = TASK.sample_batch(key, "train", (K, 2, 4))
        state, info = algorithm.round(TASK.loss, algorithm.init(PARAMS), key, batches)
        return algorithm.params(state), info.losses

    with jax.numpy_dtype_promotion("standard"):
        params, losses = jax.eval_shape(one_round, jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, PARAMS) and losses.shape == (K, 2)


@pytest.mark.parametrize("condition", ["4 bits", pytest.param("late workers", marks=SLOW), "ring"])
def test_a_learned_optimizer_learns_under_it(condition):
    workers, server, _ = server_of("lopt_generalist")
    algorithm = simulate(CONDITIONS[condition](workers, server, K), K)

    def train(key):
        def one_round(state, key):
            batches = TASK.sample_batch(key, "train", (K, 2, 8))
            state, info = algorithm.round(TASK.loss, state, key, batches)
            return state, jnp.mean(info.losses)

        return jax.lax.scan(one_round, algorithm.init(PARAMS), jax.random.split(key, 20))[1]

    with jax.numpy_dtype_promotion("standard"):
        losses = np.asarray(jax.jit(train)(jax.random.key(1)))
    assert np.isfinite(losses).all() and losses[-5:].mean() < 0.8 * losses[0]


def test_bytes_under_the_conditions():
    large = {"w": jnp.zeros((100, 100))}
    sent = {name: make(optax.sgd(0.1), optax.sgd(1.0), K).bytes_sent(large) for name, make in CONDITIONS.items()}
    dense = dense_bytes(large)
    assert sent[FULL] == sent["exponential"] == sent["late workers"] == dense and sent["ring"] == 2 * dense
    assert sent["top-k"] < sent["2 bits"] < sent["4 bits"] < sent["8 bits"] < dense / 3.9


def test_the_table_and_the_figure():
    everyone = [contender(f"mine, {name}", CURVE) for name in CONDITIONS]
    everyone += [contender(f"reader, {name}", CURVE) for name in CONDITIONS if name not in GOSSIP]
    found = results(*everyone)
    text = conditions_table(found, ["mine", "reader"])
    assert "| full | 1 | 1.5 | 1.5 |" in text and "| ring | 1 | 1.5 | - |" in text
    assert loss_against_bytes(found).startswith("<?xml")


def test_unsuitable_checkpoints_are_named(tmp_path):
    five = lagg_a(num_workers=5, hidden_size=4)
    path = tmp_path / "a.safetensors"
    save(path, five, five.init(jax.random.key(0)), local_opt={"name": "sgd", "learning_rate": 0.5})
    with pytest.raises(ValueError, match="built for 5 workers, not 8"):
        prepare([path], tmp_path / "out", 10, 1)
    with pytest.raises(ValueError, match="reads gradients of one machine"):
        prepare(["adafac_generalist"], tmp_path / "out", 10, 1)
    with pytest.raises(ValueError, match="num_seeds=0"):
        prepare([], tmp_path / "out", 10, 0)


@pytest.mark.slow
def test_a_run_writes_table_and_figure(tmp_path):
    lopt = lopt_a(hidden_size=4, nominal="average")
    path = tmp_path / "a.safetensors"
    save(path, lopt, lopt.init(jax.random.key(0)), local_opt={"name": "sgd", "learning_rate": 0.5})
    text = prepare([f"mine={path}"], tmp_path / "out", 2, 1)(lambda *_: None)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert "mine_anchor" in text and {"conditions.md", "loss_against_bytes.svg", "results.json"} <= names
    stages = []
    assert prepare([f"mine={path}"], tmp_path / "out", 2, 1)(lambda *stage: stages.append(stage)) == text
    assert not stages, "a finished condition was run again"
    assert TOY.num_workers < K
