"""What every optimizer of the table promises: it descends, keeps shapes and dtypes, and takes any learning rate."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.__main__ import main
from learned_opt.optimizers import LOCAL_OPTIMIZERS, make_local_optimizer
from learned_opt.optimizers.table import OPTIMIZERS

OURS = [name for name, entry in OPTIMIZERS.items() if entry.make.__module__.startswith("learned_opt.")]
BUILT_ON_OPTAX = ("perp_adam", "sam", "schedule_free_adamw")
RATES = {
    "prodigy": 1.0,
    "sam": 0.02,
    "sgdp": 0.02,
    "relative_adam": 0.1,
    "relative_rmsprop": 0.1,
    "normalized_sgd": 0.1,
}
FIRST_STEP_ONLY = ("sa_sgd", "sa_sam")
"""Their learning rate is that of the first step."""


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's Adam raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


def centred_columns(seed, shape):
    x = np.random.default_rng(seed).normal(size=shape)
    x = x - x.mean(0)
    return (x / np.linalg.norm(x, axis=0)).astype(np.float32)


TARGET = {"w": centred_columns(0, (4, 3)), "v": np.array([2.0, 1.0], np.float32), "s": np.float32(0.4)}
START = {"w": centred_columns(1, (4, 3)), "v": np.array([1.0, 2.0], np.float32), "s": np.float32(0.5)}
"""Of equal norms, tensor by tensor of several entries: also those who only turn a tensor can go there."""


def loss_of(params):
    return optax.tree.norm(jax.tree.map(jnp.subtract, params, TARGET), squared=True) / 2


def step_of(optimizer, params, state):
    """One step, given everything that a worker's optimizer is given."""
    value, gradient = jax.value_and_grad(loss_of)(params)
    optimizer = optax.with_extra_args_support(optimizer)
    extra = {"value": value, "anchor": params, "key": jax.random.key(0)}
    updates, state = optimizer.update(
        gradient, state, params, grad_fn=lambda p, _=None: jax.grad(loss_of)(p), unknown=None, **extra
    )
    assert jax.tree.map(lambda u: (u.shape, u.dtype), updates) == jax.tree.map(lambda p: (p.shape, p.dtype), params)
    return optax.apply_updates(params, updates), state


@pytest.mark.parametrize("name", LOCAL_OPTIMIZERS)
def test_descends_at_a_traced_rate_in_a_scan(name):
    """A scan also refuses a state whose shapes or dtypes change."""

    @jax.jit
    def losses(learning_rate):
        optimizer = make_local_optimizer(name, learning_rate)
        params: Any = jax.tree.map(jnp.asarray, START)

        def step(carry, _):
            return step_of(optimizer, *carry), loss_of(carry[0])

        (params, _), values = jax.lax.scan(step, (params, optimizer.init(params)), length=40)
        return values[0], loss_of(params)

    before, after = losses(jnp.float32(RATES.get(name, 0.05)))
    assert after < 0.7 * before


@pytest.mark.parametrize("name", [name for name in LOCAL_OPTIMIZERS if name not in FIRST_STEP_ONLY])
def test_a_schedule_over_steps_is_the_rate_of_each_step(name):
    """A step at one rate, then one at another from the same state, is what the schedule does."""
    rates = jnp.float32([0.25, 0.125, 0.5])

    def two_ways(rates):
        scheduled = make_local_optimizer(name, lambda count: rates[count])
        params: Any = jax.tree.map(jnp.asarray, START)
        one, other = [(params, scheduled.init(params))], [(params, make_local_optimizer(name, rates[0]).init(params))]
        for i in range(len(rates)):
            one.append(step_of(scheduled, *one[-1]))
            other.append(step_of(make_local_optimizer(name, rates[i]), *other[-1]))
        return one[-1][0], other[-1][0]

    found, expected = jax.jit(two_ways)(rates)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6), found, expected)


@pytest.mark.parametrize("name", LOCAL_OPTIMIZERS)
def test_bfloat16_parameters_stay_so(name):
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), START)
    optimizer = make_local_optimizer(name, 0.01)

    def both(params):
        state = optimizer.init(params)
        return state, step_of(optimizer, params, state)

    before, (after, state) = jax.eval_shape(both, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {jnp.dtype(jnp.bfloat16)}
    if name in OURS and name not in BUILT_ON_OPTAX:
        assert before == state
        # But for the parameters of the last step, of which SA-SGD takes the gradient anew.
        state = state._replace(previous=None) if name in FIRST_STEP_ONLY else state
        assert jnp.dtype(jnp.bfloat16) not in {leaf.dtype for leaf in jax.tree.leaves(state)}


@pytest.mark.parametrize("name", OURS)
def test_ours_hold_with_odd_leaves_and_without_a_gradient(name):
    params = {"w": jnp.ones((2, 2)), "none": None, "empty": jnp.zeros((0, 3)), "scalar": jnp.float32(2.0)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    optimizer = optax.with_extra_args_support(make_local_optimizer(name, 0.1))

    @jax.jit
    def two_steps(first, second):
        state = optimizer.init(params)
        steps = []
        for gradient in (first, second):
            updates, state = optimizer.update(
                gradient, state, params, value=jnp.float32(0.5), grad_fn=lambda p, _=None, g=gradient: g
            )
            steps.append(updates)
        return steps

    with jax.numpy_dtype_promotion("standard" if name in BUILT_ON_OPTAX else "strict"):
        for updates in two_steps(params, zeros) + two_steps(zeros, params):
            assert updates["none"] is None and updates["empty"].shape == (0, 3)
            assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(updates))


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        *(
            (name, "params")
            for name in ("nero", "adamp", "sgdp", "perp_adam", "asgd", "sam", "sa_sgd", "relative_adam")
        ),
        *((name, "grad_fn") for name in ("sam", "sa_sgd", "sa_sam")),
        ("normalized_logistic", "value"),
    ],
)
def test_what_an_update_needs_is_named(name, missing):
    params = jnp.ones(3)
    optimizer = make_local_optimizer(name, 0.1)
    with pytest.raises(ValueError, match=f"update needs .*{missing}"):
        optimizer.update(params, optimizer.init(params), *([] if missing == "params" else [params]))


def test_the_table_is_listed(capsys):
    assert main(["optimizers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[3:]] == list(OPTIMIZERS)
    assert all(entry.use and entry.gradients in (1, 2, 3) for entry in OPTIMIZERS.values())
