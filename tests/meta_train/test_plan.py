"""What `plan` prints: bytes against real arrays, operations against counts by hand, memory linear in what it should."""

import dataclasses

import jax
import numpy as np
import pytest

import meta_train.plan
import meta_train.trainer
from meta_train.__main__ import main
from meta_train.config import MetaTrainConfig
from meta_train.plan import make_plan, report, run_flops, tree_bytes
from meta_train.trainer import build_lopt, build_trainer
from tasks.suites import make_family
from tests.meta_train.test_trainer import regression_family

TINY = MetaTrainConfig(
    optimizer="lopt_a",
    num_workers=2,
    num_local_steps=1,
    batch_size=64,
    hidden_size=2,
    hidden_layers=1,
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
    for module in (meta_train.plan, meta_train.trainer):
        monkeypatch.setattr(module, "make_family", lambda name: regression_family())


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
        make_plan(dataclasses.replace(TINY, **{field: value}), flops_per_second=1e9).peak_bytes for value in values
    )
    assert low < middle < high
    assert abs(high - 2 * middle + low) <= 0.1 * (high - low)


def test_bytes_are_those_of_the_arrays(regression):
    plan = make_plan(TINY, flops_per_second=1e9)
    state = build_trainer(TINY).init(jax.random.key(0))

    def size(tree):
        return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))

    assert plan.particle_bytes == {TINY.task: size(state.estimator_state)}
    assert plan.theta_bytes == size((state.theta, state.theta_average, state.opt_state))
    assert plan.data_bytes == {TINY.task: 2 * 64 * 3 * 4} and plan.num_params == {TINY.task: 3}
    on_device = size(state.estimator_state) // plan.num_devices
    # Of the data the program takes the split it reads; the rest is two counters and the root key.
    rest = size((state.step, state.num_skipped_in_row)) + tree_bytes(state.key)
    assert plan.programs["meta_step"].arguments == on_device + plan.theta_bytes + 64 * 3 * 4 + rest
    assert plan.peak_bytes >= plan.programs["meta_step"].temporaries + on_device


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


def test_report_of_a_mixture(regression):
    from meta_train.component import Component

    config = dataclasses.replace(
        TINY,
        meta_steps=1000,
        components=(Component("fmnist8_mlp32"), Component("fmnist8_mlp32", name="more", num_workers=4)),
        components_per_step=1,
    )
    plan = make_plan(config, flops_per_second=1e9)
    assert list(plan.programs) == ["fmnist8_mlp32_k2_h1", "more", "update"]
    text = report(config, plan)
    seconds = sum(plan.flops.values()) / 2 / (0.5e9 * plan.num_devices)
    assert f"about {seconds:.3g} s" in text and "peak memory of a device" in text and "more: 3 parameters" in text
    assert tree_bytes(jax.random.key(0)) == 8


def test_command(regression, capsys, monkeypatch):
    monkeypatch.setattr("eval.machine.devices.use_all_cores", lambda: None)
    flags = [f"--{f.name}={getattr(TINY, f.name)}" for f in dataclasses.fields(TINY) if f.name in _SMALL]
    assert main(["plan", "lopt_fmnist8_k8_h4", *flags]) == 0
    assert "program meta_step: arguments" in capsys.readouterr().out


_SMALL = {
    "num_workers",
    "num_local_steps",
    "batch_size",
    "hidden_size",
    "hidden_layers",
    "num_tasks",
    "truncation_length",
    "min_unroll_length",
    "max_unroll_length",
}
