"""The training loop against a NumPy loop, and what is fair: same starts, same batches."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eval.compare.baselines import make_baselines
from eval.compare.contenders import Contender, contender
from eval.compare.curves import evenly_spaced, make_curves, some_points
from eval.compare.grids import GridAxis
from eval.compare.initial_states import FINAL, TUNING, draw_initial_states
from eval.compare.runner import make_runner
from eval.diagnostics.base import Diagnostic
from eval.diagnostics.table import DIAGNOSTICS
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.post_local_sgd import post_local_sgd
from learned_opt.algorithms.server import fedavg
from tests.eval.toy import TOY, toy_family

FAMILY = toy_family()
TRAIN = {"train": FAMILY.data["train"]}


def quiet(done, total):
    del done, total


LOCAL_SGD = Contender(
    "local_sgd", lambda h: local_sgd(optax.sgd(h["lr"]), fedavg()), {"lr": GridAxis((0.1, 0.2, 0.3, 0.4))}
)


def train(protocol, settings, record=True, stage=FINAL) -> Any:
    starts = draw_initial_states(FAMILY, protocol, TRAIN, stage, protocol.num_seeds)
    runner = make_runner(FAMILY, LOCAL_SGD, protocol, TRAIN, starts)
    return runner.train(settings, starts, quiet, record), starts


def curve_of(protocol, runs, starts):
    examples = {"train": evenly_spaced(TRAIN["train"], protocol.num_curve_examples)}
    return make_curves(FAMILY, examples, "train")(runs.snapshots, starts)["loss"]


def softmax_regression_step(weights, bias, batch, lr):
    x, y = np.asarray(batch["image"]).reshape(-1, 4), np.asarray(batch["label"])
    logits = x @ weights + bias
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    error = (probabilities - np.eye(3)[y]) / len(y)
    return weights - lr * x.T @ error, bias - lr * error.sum(axis=0)


def test_one_worker_one_step_is_a_plain_sgd_loop():
    protocol = dataclasses.replace(TOY, num_workers=1, num_local_steps=1, num_seeds=2)
    runs, starts = train(protocol, [{"lr": 0.3}])
    for seed in range(2):
        params = jax.tree.map(lambda x, seed=seed: np.float64(x[seed]), starts.params)["Dense_0"]
        weights, bias = params["kernel"], params["bias"]
        for key_data in starts.batch_keys[seed]:
            task = FAMILY.task({}, TRAIN)
            key = jax.random.wrap_key_data(key_data)
            batch = jax.tree.map(lambda x: x[0, 0], task.sample_batch(key, "train", (1, 1, 4)))
            weights, bias = softmax_regression_step(weights, bias, batch, 0.3)
        got = runs.params["Dense_0"]
        np.testing.assert_allclose(got["kernel"][seed], weights, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got["bias"][seed], bias, rtol=1e-5, atol=1e-6)


def test_what_an_algorithm_chooses_is_counted():
    """And of its other diagnostics, which may be anything, the numbers are recorded."""
    algorithm = post_local_sgd(optax.sgd(0.1), 3)

    def with_others(*inputs):
        state, info = algorithm.round(*inputs)
        others = {"number": jnp.float32(2), "vector": jnp.arange(3), "tree": {"a": jnp.float32(1)}}
        return state, info._replace(diagnostics=info.diagnostics | others)

    protocol = dataclasses.replace(TOY, eval_every=2, num_seeds=2)
    switching = Contender("post_local_sgd", lambda h: algorithm._replace(round=with_others), {})
    starts = draw_initial_states(FAMILY, protocol, TRAIN, FINAL, 2)
    runs = make_runner(FAMILY, switching, protocol, TRAIN, starts).train([{}], starts, quiet)
    # Three rounds of two communications each, then three of one.
    assert runs.counts["communications"].tolist() == [[4, 7, 9]] * 2
    assert list(runs.diagnostics) == ["number"] and runs.diagnostics["number"].tolist() == [[2.0] * 3] * 2


def test_the_workers_of_rivals_are_measured_too():
    """In a first round, where nothing is corrected yet, SCAFFOLD's are those of Local SGD."""
    protocol = dataclasses.replace(TOY, num_rounds=1, num_seeds=1, diagnostics=("consensus_distance",))
    starts = draw_initial_states(FAMILY, protocol, TRAIN, FINAL, 1)
    first, second = (
        make_runner(FAMILY, made, protocol, TRAIN, starts).train([{"local_lr": 0.1}], starts, quiet, True).diagnostics
        for made in make_baselines(protocol, ("scaffold", "local_sgd"))
    )
    assert first["consensus_distance"].item() > 0
    np.testing.assert_allclose(first["consensus_distance"], second["consensus_distance"], rtol=1e-5)


@pytest.mark.parametrize("local", [True, False])
def test_a_schedule_multiplies_the_rate_of_every_step(local):
    protocol = dataclasses.replace(TOY, num_workers=1, num_local_steps=2, num_seeds=1, schedule="linear")
    # Local SGD steps on every minibatch, data-parallel training once a round on both together.
    made = contender(
        "sgd", protocol, lambda h: optax.sgd(1.0 if local else 0.3), {}, (lambda h: optax.sgd(0.3)) if local else None
    )
    starts = draw_initial_states(FAMILY, protocol, TRAIN, FINAL, 1)
    runs = make_runner(FAMILY, made, protocol, TRAIN, starts).train([{}], starts, quiet)
    params = jax.tree.map(lambda x: np.float64(x[0]), starts.params)["Dense_0"]
    weights, bias = params["kernel"], params["bias"]
    steps = 2 if local else 1
    for round, key_data in enumerate(starts.batch_keys[0]):
        key = jax.random.wrap_key_data(key_data)
        batches = FAMILY.task({}, TRAIN).sample_batch(key, "train", (1, 2, 4))
        for h in range(steps):
            batch = jax.tree.map(lambda x, h=h: x[0, h] if local else x.reshape(8, *x.shape[3:]), batches)
            rate = 0.3 * (1 - (round * steps + h) / (protocol.num_rounds * steps))
            weights, bias = softmax_regression_step(weights, bias, batch, rate)
    np.testing.assert_allclose(runs.params["Dense_0"]["kernel"][0], weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(runs.params["Dense_0"]["bias"][0], bias, rtol=1e-5, atol=1e-6)


def test_an_average_of_the_parameters_is_evaluated_in_their_place():
    plain, _ = train(TOY, [{"lr": 0.3}])
    averaged, _ = train(dataclasses.replace(TOY, ema=0.8), [{"lr": 0.3}])
    np.testing.assert_array_equal(averaged.minibatch_loss, plain.minibatch_loss)
    for leaf, found in zip(jax.tree.leaves(plain.snapshots), jax.tree.leaves(averaged.snapshots), strict=True):
        for t in range(1, TOY.num_rounds + 1):
            weights = 0.8 ** np.arange(t - 1, -1, -1)
            expected = np.tensordot(np.float64(leaf[:, :t]), weights / weights.sum(), axes=([1], [0]))
            np.testing.assert_allclose(found[:, t - 1], expected, rtol=2e-6, atol=1e-7)
    for leaf, last in zip(jax.tree.leaves(averaged.params), jax.tree.leaves(averaged.snapshots), strict=True):
        np.testing.assert_array_equal(leaf, last[:, -1])


def test_the_curve_ends_at_the_loss_of_the_final_parameters():
    runs, starts = train(TOY, [{"lr": 0.3}])
    train_loss = curve_of(TOY, runs, starts)
    examples = {"train": evenly_spaced(TRAIN["train"], TOY.num_curve_examples)}
    batch = FAMILY.eval_batch(examples, "train")
    for seed in range(TOY.num_seeds):
        params = jax.tree.map(lambda x, seed=seed: jnp.asarray(x[seed]), runs.params)
        loss = FAMILY.task({}, TRAIN).metrics(params, batch)["loss"]
        np.testing.assert_allclose(train_loss[seed, -1], loss, rtol=1e-6)
    assert train_loss.shape == runs.minibatch_loss.shape == (3, TOY.num_rounds)


def test_the_curve_of_every_snapshot_is_its_own():
    runs, starts = train(dataclasses.replace(TOY, num_rounds=5, num_seeds=3), [{"lr": 0.3}])
    protocol = dataclasses.replace(TOY, num_rounds=5)
    whole = curve_of(protocol, runs, starts)
    for seed, point in ((0, 0), (1, 3), (2, 4)):
        one = jax.tree.map(lambda x, seed=seed, point=point: x[seed : seed + 1, point : point + 1], runs.snapshots)
        alone = curve_of(protocol, runs._replace(snapshots=one), starts)
        np.testing.assert_array_equal(alone, whole[seed : seed + 1, point : point + 1])


def test_a_run_does_not_depend_on_its_company():
    settings = [{"lr": lr} for lr in (0.1, 0.2, 0.3, 0.4)]
    together, _ = train(TOY, settings)
    alone, _ = train(TOY, settings[2:3])
    for whole, part in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_array_equal(whole[6:9], part)


@pytest.mark.parametrize("record", [True, False])
def test_runs_vmapped_in_chunks_agree(monkeypatch, record):
    settings = [{"lr": lr} for lr in (0.1, 0.2, 0.3, 0.4)] * 6
    protocol = dataclasses.replace(TOY, tuning_seeds=6)
    one_by_one, _ = train(protocol, settings, record)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    chunked, _ = train(protocol, settings, record)
    assert (chunked.snapshots is None) != record
    for first, second in zip(jax.tree.leaves(one_by_one), jax.tree.leaves(chunked), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("vmapped", [False, True])
def test_a_round_is_diagnosed_where_that_is_recorded_and_nowhere_else(monkeypatch, vmapped):
    """Neither while tuning nor between the points of a curve, whether runs are vmapped or not."""
    calls = []

    def measure(worker_updates):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sum(worker_updates["Dense_0"]["kernel"][0])

    monkeypatch.setitem(DIAGNOSTICS, "counted", Diagnostic("counted", "round", measure))
    if vmapped:
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    protocol = dataclasses.replace(TOY, eval_every=3, diagnostics=("counted",), tuning_seeds=9)
    made = contender("a", protocol, lambda h: fedavg(), LOCAL_SGD.grid, lambda h: optax.sgd(h["lr"]))
    starts = draw_initial_states(FAMILY, protocol, TRAIN, FINAL, 3)
    runner = make_runner(FAMILY, made, protocol, TRAIN, starts)
    assert (runner.wave_size > len(jax.devices())) == vmapped
    found = {}
    for record in (False, True):
        calls.clear()
        runs = runner.train([{"lr": 0.3}], starts, quiet, record)
        jax.effects_barrier()
        # Two points, on every device: a wave is filled up with runs, and vmapped ones call once.
        assert len(calls) == (2 * len(jax.devices()) if record else 0)
        found[record] = runs.diagnostics["counted"]
        assert found[record].shape == (3, 2) and np.all(np.isfinite(found[record]) == record)
    if vmapped:
        return
    each_round = dataclasses.replace(protocol, eval_every=1)
    runs = make_runner(FAMILY, made, each_round, TRAIN, starts).train([{"lr": 0.3}], starts, quiet, True)
    np.testing.assert_allclose(found[True], runs.diagnostics["counted"][:, 2::3], rtol=1e-5)


def test_every_snapshot_is_measured_on_the_task_of_its_seed():
    def task(config, data):
        inner = FAMILY.task({}, data)
        return inner._replace(metrics=lambda params, batch: {"loss": config["number"] + 0 * params["w"][0]})

    family = FAMILY._replace(task=task)
    curves = make_curves(family, {"train": evenly_spaced(TRAIN["train"], 8)}, "train")
    snapshots = {"w": np.zeros((3, 5, 1), np.float32)}
    starts = draw_initial_states(FAMILY, TOY, TRAIN, FINAL, 3)
    starts = starts._replace(task_config={"number": np.array([10, 20, 30], np.float32)})
    np.testing.assert_array_equal(curves(snapshots, starts)["loss"], np.repeat([[10], [20], [30]], 5, axis=1))


def test_curves_of_the_test_split_have_every_metric():
    runs, starts = train(TOY, [{"lr": 0.3}])
    data = {"train": TRAIN["train"], "test": FAMILY.data["test"]}
    found = make_curves(FAMILY, data, "test")(runs.snapshots, starts)
    assert set(found) == {"loss", "accuracy"} and found["accuracy"].shape == (3, TOY.num_rounds)
    batch = FAMILY.eval_batch(FAMILY.data, "test")
    params = jax.tree.map(lambda x: jnp.asarray(x[1, 2]), runs.snapshots)
    expected = FAMILY.task({}, TRAIN).metrics(params, batch)
    for metric, value in expected.items():
        np.testing.assert_allclose(found[metric][1, 2], value, rtol=1e-5)


@pytest.mark.parametrize(
    ("number", "limit", "points"), [(4, 9, [0, 1, 2, 3]), (10, 4, [0, 3, 6, 9]), (7, 1, [6]), (1, 5, [0])]
)
def test_some_points_end_with_the_last(number, limit, points):
    assert some_points(number, limit).tolist() == points


def test_eval_every_thins_the_curve_and_changes_nothing_else():
    full, starts = train(TOY, [{"lr": 0.3}])
    thin, _ = train(dataclasses.replace(TOY, eval_every=3), [{"lr": 0.3}])
    np.testing.assert_allclose(curve_of(TOY, thin, starts), curve_of(TOY, full, starts)[:, 2::3], rtol=1e-6)
    np.testing.assert_allclose(thin.minibatch_loss, full.minibatch_loss, rtol=1e-6)


def test_more_seeds_keep_the_first_ones_and_stages_differ():
    three = draw_initial_states(FAMILY, TOY, TRAIN, FINAL, 3)
    five = draw_initial_states(FAMILY, TOY, TRAIN, FINAL, 5)
    for few, many in zip(jax.tree.leaves(three), jax.tree.leaves(five), strict=True):
        np.testing.assert_array_equal(few, many[:3])
    tuning = draw_initial_states(FAMILY, TOY, TRAIN, TUNING, 3)
    assert not np.array_equal(three.batch_keys, tuning.batch_keys)
    keys = np.concatenate([three.batch_keys, three.round_keys]).reshape(-1, 2)
    assert len(np.unique(keys, axis=0)) == len(keys)


def test_a_diverged_run_has_infinite_loss():
    runs, starts = train(TOY, [{"lr": float("nan")}])
    assert not np.any(np.isfinite(curve_of(TOY, runs, starts)[:, -1]))


def test_the_cost_of_a_contender():
    starts = draw_initial_states(FAMILY, TOY, TRAIN, FINAL, TOY.num_seeds)
    momentum = Contender("m", lambda h: local_sgd(optax.sgd(0.1, 0.9), optax.sgd(1.0)), {})
    runner = make_runner(FAMILY, momentum, TOY, TRAIN, starts)
    assert runner.cost()["seconds_per_round"] is None
    runner.train([{}], starts, quiet)
    cost = runner.cost()
    # One float32 momentum for each of the 4 x 3 weights and 3 biases on each of the two workers.
    assert cost["state_bytes"] == 4 * 15 * 2
    assert all(value is not None and value >= 0 for value in cost.values())


@pytest.mark.parametrize(("number", "expected"), [(3, [0, 44, 89]), (1000, list(range(90)))])
def test_curve_examples_are_evenly_spaced(number, expected):
    numbered = {"image": np.arange(90)}
    assert evenly_spaced(numbered, number)["image"].tolist() == expected
