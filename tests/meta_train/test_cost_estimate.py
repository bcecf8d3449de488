"""What `plan` prints: bytes against real arrays, operations against counts by hand, memory linear in what it should."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import meta_train.cost_estimate
import meta_train.trainer
from meta_train.__main__ import main
from meta_train.component import Component
from meta_train.config import MetaTrainConfig
from meta_train.cost_estimate import estimate_cost, report, run_flops, tree_bytes
from meta_train.trainer import build_lopt, build_trainer
from tasks.suites import make_family
from tests.meta_train.toy_families import regression_family

TINY = MetaTrainConfig(
    optimizer="lopt_a,hidden_size=2,hidden_layers=1,nominal=momentum",
    num_workers=2,
    num_local_steps=1,
    batch_size=64,
    num_tasks=16,
    truncation_length=2,
    min_unroll_length=2,
    max_unroll_length=6,
)


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's AdamW raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def regression(monkeypatch):
    """Linear regression in the place of every family: its programs are small."""
    monkeypatch.setattr(meta_train.cost_estimate, "find_family", lambda task, given: regression_family())
    monkeypatch.setattr(meta_train.trainer, "find_family", lambda task, given: regression_family())


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("num_tasks", (64, 128, 192)),
        pytest.param("num_workers", (4, 8, 12), marks=pytest.mark.slow),
        pytest.param("num_local_steps", (2, 6, 10), marks=pytest.mark.slow),
    ],
)
def test_memory_is_linear_in_particles_workers_and_local_steps(field, values, regression):
    low, middle, high = (
        estimate_cost(dataclasses.replace(TINY, **{field: value}), flops_per_second=1e9).peak_bytes for value in values
    )
    assert low < middle < high
    assert abs(high - 2 * middle + low) <= 0.1 * (high - low)


def test_bytes_are_those_of_the_arrays(regression):
    estimate = estimate_cost(TINY, flops_per_second=1e9)
    state = build_trainer(TINY).init(jax.random.key(0))

    def size(tree):
        return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))

    assert estimate.particle_bytes == {TINY.task: size(state.particles)}
    assert estimate.theta_bytes == size((state.theta, state.theta_average, state.opt_state))
    assert estimate.data_bytes == {TINY.task: 4 * 64 * 3 * 4} and estimate.num_params == {TINY.task: 3}
    on_device = size(state.particles) // estimate.num_devices
    # Of the data the program takes the split it reads; the rest is two counters and the root key.
    rest = size((state.step, state.num_skipped_in_row)) + tree_bytes(state.key)
    assert estimate.programs["meta_step"].arguments == on_device + estimate.theta_bytes + 64 * 3 * 4 + rest
    assert estimate.peak_bytes >= estimate.programs["meta_step"].temporaries + on_device


def test_operations_of_a_gradient_step_against_matrix_products():
    """An MLP 64-32-10: two products forward, three backward (none for the gradient of the images)."""
    config = dataclasses.replace(TINY, num_local_steps=1, batch_size=256)
    family, lopt = make_family("fmnist8_mlp32"), build_lopt(config)
    one, two, three = (
        run_flops(dataclasses.replace(config, num_local_steps=steps), lopt, family) for steps in (1, 2, 3)
    )
    np.testing.assert_allclose(three - two, two - one, rtol=1e-9)
    step = (two - one) / (2 * config.num_tasks * config.truncation_length * config.num_workers)
    products = 2 * 256 * (2 * 64 * 32 + 3 * 32 * 10)
    assert products < step < 1.4 * products
    np.testing.assert_allclose(run_flops(dataclasses.replace(config, num_tasks=48), lopt, family), 3 * one, rtol=1e-9)


@pytest.mark.parametrize("estimator", ["truncated_backprop", "full_backprop"])
def test_operations_of_what_is_differentiated(estimator):
    """Against what XLA counts on the gradient of one round: a local step and a server step, rematerialised."""
    config = dataclasses.replace(TINY, num_tasks=1, estimator=estimator, min_unroll_length=2, max_unroll_length=2)
    family, lopt = make_family("fmnist8_mlp32"), build_lopt(config)
    counted = run_flops(dataclasses.replace(config, truncation_length=1), lopt, family)
    if estimator == "full_backprop":
        counted /= 2  # rounds of the episode

    task = family.task({}, family.data)
    params = task.init(jax.random.key(0))
    theta = lopt.init(jax.random.key(0))

    def loss_of_a_round(theta):
        @jax.checkpoint
        def one_round(theta):
            def sent(key):
                batch = task.sample_batch(key, "train", (config.batch_size,))
                loss, gradient = jax.value_and_grad(task.loss)(params, key, batch)
                return loss, jax.tree.map(lambda g: 0.1 * g, gradient)

            losses, updates = jax.vmap(sent)(jax.random.split(jax.random.key(1), config.num_workers))
            mean = jax.tree.map(lambda x: jnp.mean(x, axis=0), updates)
            transform = lopt.transform(theta)
            step, _ = transform.update(mean, transform.init(params), params, value=jnp.mean(losses))
            return optax.apply_updates(params, step)

        batch = task.sample_batch(jax.random.key(2), "train", (1,))
        return task.loss(one_round(theta), jax.random.key(0), batch)

    cost = jax.jit(jax.grad(loss_of_a_round)).lower(theta).cost_analysis()
    assert cost is not None
    # Nothing of the gradient steps depends on theta in a single round, so their backward pass is missing here.
    assert cost["flops"] < counted < 2.5 * cost["flops"]


def test_report_of_a_mixture(regression):
    config = dataclasses.replace(
        TINY,
        meta_steps=1000,
        components=(Component("fmnist8_mlp32"), Component("fmnist8_mlp32", name="more", num_workers=4)),
        components_per_step=1,
    )
    estimate = estimate_cost(config, flops_per_second=1e9)
    assert list(estimate.programs) == ["fmnist8_mlp32_k2_h1", "more", "update"]
    # Components of one family read the same arrays.
    assert list(estimate.data_bytes.values()) == [4 * 64 * 3 * 4, 0]
    text = report(config, estimate)
    seconds = sum(estimate.flops.values()) / 2 / (0.5e9 * estimate.num_devices)
    assert f"about {seconds:.3g} s" in text and "peak memory of a device" in text and "more: 3 parameters" in text
    assert tree_bytes(jax.random.key(0)) == 8


@pytest.mark.parametrize("estimator", ["pes", "es", "truncated_backprop"])
def test_command(estimator, regression, capsys, monkeypatch):
    monkeypatch.setattr("eval.machine.devices.use_all_cores", lambda: None)
    flags = [f"--{f.name}={getattr(TINY, f.name)}" for f in dataclasses.fields(TINY) if f.name in _SMALL]
    spread = [] if estimator == "truncated_backprop" else ["--worker-devices=2"]
    assert main(["plan", "lopt_fmnist8_k8_h4", f"--estimator={estimator}", *spread, *flags]) == 0
    text = capsys.readouterr().out
    assert "program meta_step: arguments" in text and "8 device(s)" in text


def test_a_program_that_cannot_be_compiled_is_no_usage_error(regression, monkeypatch):
    def broken(trainer, mesh):
        raise ValueError("Incompatible shapes for broadcasting")

    monkeypatch.setattr("meta_train.cost_estimate.abstract_state", broken)
    monkeypatch.setattr("eval.machine.devices.use_all_cores", lambda: None)
    with pytest.raises(RuntimeError, match="cannot be compiled"):
        main(["plan", "lopt_fmnist8_k8_h4"])


_SMALL = {
    "optimizer",
    "num_workers",
    "num_local_steps",
    "batch_size",
    "num_tasks",
    "truncation_length",
    "min_unroll_length",
    "max_unroll_length",
}
