"""What every task family promises, checked for each entry of the suites. Entries whose dataset is not at hand skip."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from tasks.base import SPLITS, TaskFamily
from tasks.suites import FAMILIES, META_TEST_MORE, make_family
from tests.tasks.adam_settings import ADAM

NUM_STEPS = 200
STOPPED_GRADIENT = {"omniglot8_siamese", "omniglot8_byol", "omniglot8_directpred"}
"""Families whose update is by definition not the derivative of their loss."""
EXPENSIVE = {
    "shakespeare_lstm128",
    "shakespeare_transformer",
    "fmnist8_autoencoder",
    "fmnist8_cnn",
    "markov_transformer",
    "omniglot8_mixer",
    "omniglot8_resnet",
    "omniglot8_vit",
    "pinn_burgers",
    "pinn_heat",
    "pit_burgers",
    "shakespeare_gru",
    "shakespeare_lstm",
    "cifar10_cnn",
    *META_TEST_MORE,
}
"""Families whose 200 steps take long on a CPU: `pytest -m slow` trains them."""
BATCH_NORMALISED = {
    "omniglot8_siamese",
    "omniglot8_byol",
    "omniglot8_directpred",
    "omniglot8_barlow_twins",
    "omniglot8_ghost_norm",
    "monge_map",
    "fmnist8_contrastive",
    "fmnist8_contrastive_wide",
}
"""Families whose loss is a function of the whole batch."""
QUICK = (
    "polynomial_rich",
    "attention_svm",
    "dynamic_signal_cnn",
    "monge_map",
    "neural_ode_local",
    "fmnist8_blocks",
    "omniglot8_barlow_twins",
)
"""Families of META_TEST_MORE of which one program is run in every test run; of the others it is only traced."""
ZERO_AT_FIRST = {"omniglot8_byol": 1}
"""Leaves whose gradient is zero at the start: the bias of a target that starts where it is pulled to."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name in META_TEST_MORE else name for name in FAMILIES],
)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def family(name) -> TaskFamily:
    try:
        return make_family(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def evaluated(family):
    """A jitted (data, key) -> (params, batch, loss, gradient)."""
    return jax.jit(lambda data, key: evaluate(family, data, key))


def start(family: TaskFamily, data, key, batch_shape=(8,)):
    """A sampled task with parameters and a batch."""
    config_key, init_key, batch_key = jax.random.split(key, 3)
    task = family.task(family.sample(config_key), data)
    return task, task.init(init_key), task.sample_batch(batch_key, "train", batch_shape)


def evaluate(family: TaskFamily, data, key):
    task, params, batch = start(family, data, key)
    loss, gradient = jax.value_and_grad(task.loss)(params, key, batch)
    return params, batch, loss, gradient


def loss_gradient_and_metrics(family: TaskFamily, data, key):
    task, params, batch = start(family, data, key)
    loss, gradient = jax.value_and_grad(task.loss)(params, key, batch)
    return loss, gradient, task.metrics(params, batch)


@pytest.mark.parametrize("name", META_TEST_MORE)
def test_shapes_of_the_families_whose_contract_is_slow(name):
    """Traced and not compiled; everything else about META_TEST_MORE takes `-m slow`."""
    family = make_family(name)

    def everything(data, key):
        return loss_gradient_and_metrics(family, data, key)

    jaxpr, (loss, gradient, metrics) = jax.make_jaxpr(everything, return_shape=True)(family.data, jax.random.key(0))
    assert loss.shape == () and loss.dtype == jnp.float32
    assert sum(leaf.size for leaf in jax.tree.leaves(gradient)) == FAMILIES[name].num_params
    assert "loss" in metrics and all(value.shape == () for value in metrics.values())
    assert sum(np.size(const) for const in jaxpr.consts) < 1000


@pytest.mark.parametrize("name", QUICK)
def test_first_losses_of_some_families_whose_contract_is_slow(name):
    """A function of the key, near the uninformed loss, with gradients for all parameters."""
    family = make_family(name)
    run = jax.jit(lambda data, key: loss_gradient_and_metrics(family, data, key))
    runs = [run(family.data, jax.random.key(i)) for i in (*range(16), 0)]
    jax.tree.map(np.testing.assert_array_equal, runs[0], runs[-1])
    losses = np.array([loss for loss, *_ in runs[:-1]])
    assert len(np.unique(losses)) > 1 and 0.5 < losses.mean() / family.uninformed_loss < 2.0
    _, gradient, metrics = runs[0]
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(gradient))
    assert all(np.isfinite(value) for value in metrics.values())


def test_loss_and_gradient_are_finite_and_start_near_the_uninformed_loss(name, family, evaluated):
    params, _, loss, gradient = evaluated(family.data, jax.random.key(0))
    assert loss.shape == () and loss.dtype == jnp.float32
    # Losses of squares are heavy-tailed, and some are a whole task's: the mean over 16 tasks of 8 examples.
    losses = [evaluated(family.data, jax.random.key(i))[2] for i in range(16)]
    assert 0.5 < np.mean(losses) / family.uninformed_loss < 2.0
    assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, params)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    assert sum(not np.any(g) for g in jax.tree.leaves(gradient)) == ZERO_AT_FIRST.get(name, 0)


def test_everything_is_determined_by_the_key_and_compiles_once(family, evaluated):
    first, again, other = (evaluated(family.data, jax.random.key(i)) for i in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    for part, changed in zip(first[:2], other[:2], strict=True):
        differs = [np.any(a != b) for a, b in zip(jax.tree.leaves(part), jax.tree.leaves(changed), strict=True)]
        assert any(differs)
    assert evaluated._cache_size() == 1


def test_samples_share_one_structure_and_vmap(family):
    keys = jax.random.split(jax.random.key(0), 2)
    configs = [family.sample(key) for key in keys]
    assert len({str(jax.tree.map(jax.typeof, config)) for config in configs}) == 1
    together = jax.vmap(lambda data, key: evaluate(family, data, key)[2], in_axes=(None, 0))
    assert jax.eval_shape(together, family.data, keys).shape == (2,)


@pytest.mark.slow
def test_vmapped_samples_are_those_one_by_one(family, evaluated):
    keys = jax.random.split(jax.random.key(0), 2)
    together = jax.jit(jax.vmap(lambda data, key: evaluate(family, data, key)[2], in_axes=(None, 0)))
    one_by_one = [evaluated(family.data, key)[2] for key in keys]
    np.testing.assert_allclose(together(family.data, keys), one_by_one, rtol=1e-4)


def test_batches_have_the_asked_shape_and_the_splits_dtypes(family):
    def shapes(data):
        task = family.task(family.sample(jax.random.key(0)), data)
        drawn = {split: task.sample_batch(jax.random.key(0), split, (2, 3, 5)) for split in SPLITS}
        return drawn, {split: family.eval_batch(data, split) for split in SPLITS}

    drawn, whole = jax.eval_shape(shapes, family.data)
    for split in SPLITS:
        assert {leaf.shape[:3] for leaf in jax.tree.leaves(drawn[split])} == {(2, 3, 5)}
        number = {leaf.shape[0] for leaf in jax.tree.leaves(whole[split])}
        assert number == {leaf.shape[0] for leaf in jax.tree.leaves(family.data[split])} and len(number) == 1
        spec = jax.tree.map(lambda leaf: (leaf.shape[3:], leaf.dtype), drawn[split])
        assert spec == jax.tree.map(lambda leaf: (leaf.shape[1:], leaf.dtype), whole[split])
    task = family.task(family.sample(jax.random.key(0)), family.data)
    with pytest.raises(ValueError, match="'validation'.*inner_valid"):
        task.sample_batch(jax.random.key(0), "validation", (1,))
    with pytest.raises(ValueError, match="'validation'.*inner_valid"):
        family.eval_batch(family.data, "validation")


def test_an_antithetic_pair_shares_one_unbatched_batch(family):
    """vmapped over what the batch does not depend on, the batch keeps no extra axis."""

    def pair(data, key, signs):
        def one(sign):
            task, params, batch = start(family, data, key)
            perturbed = jax.tree.map(lambda p: p + sign * 0.01, params)
            return task.loss(perturbed, key, batch), batch

        # out_axes=None refuses a batch that was mapped.
        return jax.vmap(one, out_axes=(0, None))(signs)

    losses, _ = jax.eval_shape(pair, family.data, jax.random.key(0), jnp.array([-1.0, 1.0]))
    assert losses.shape == (2,)


def test_no_dataset_hides_in_the_program(family):
    def loss(data, key):
        return evaluate(family, data, key)[2]

    jaxpr = jax.make_jaxpr(loss)(family.data, jax.random.key(0))
    assert sum(np.size(const) for const in jaxpr.consts) < 1000


def test_gradient_agrees_with_finite_differences(name, family, evaluated):
    """Along a random direction, in float64: the central difference errs by O(step^2).

    The point lies off the initial parameters, where biases of zero on black pixels put ReLUs on their kink.
    """
    if name in STOPPED_GRADIENT:
        pytest.skip("its gradient is stopped on one side")
    key = jax.random.key(3)
    params, batch, *_ = jax.device_get(evaluated(family.data, key))
    config = jax.device_get(family.sample(jax.random.split(key, 3)[0]))
    with jax.enable_x64(True):

        def wide(tree):
            return jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, tree)

        flat, unravel = ravel_pytree(wide(params))
        rng = np.random.default_rng(4)
        flat = flat + 0.05 * rng.normal(size=flat.shape)
        direction = rng.normal(size=flat.shape)
        direction /= np.linalg.norm(direction)

        @jax.jit
        def value_and_slope(flat, config, data, batch):
            task = family.task(config, data)

            def loss(flat):
                return task.loss(unravel(flat), jax.random.key(5), batch)

            value, gradient = jax.value_and_grad(loss)(flat)
            return value, gradient @ direction

        rest = (wide(config), jax.device_put(family.data), wide(batch))
        step = 1e-6
        above, below = (value_and_slope(flat + sign * step * direction, *rest)[0] for sign in (1, -1))
        slope = value_and_slope(flat, *rest)[1]
        assert above.dtype == jnp.float64
        np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("speed", ["quick", pytest.param("slow", marks=pytest.mark.slow)])
def test_tuned_adam_beats_the_constant_guess(name, family, speed):
    """200 steps on batches of 32; the loss is that of the last 50 minibatches."""
    if (name in EXPENSIVE) != (speed == "slow"):
        pytest.skip("trained at the other speed")
    setting = ADAM[name]
    optimizer = optax.adam(setting.learning_rate)

    @jax.jit
    def train(data, key):
        task, params, _ = start(family, data, key)

        def step(carry, index):
            params, state = carry
            batch_key, loss_key = jax.random.split(jax.random.fold_in(key, index))
            batch = task.sample_batch(batch_key, "train", (32,))
            loss, gradient = jax.value_and_grad(task.loss)(params, loss_key, batch)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), loss

        with jax.numpy_dtype_promotion("standard"):
            state = optimizer.init(params)
        (params, _), losses = jax.lax.scan(step, (params, state), jnp.arange(NUM_STEPS))
        rows = jax.tree.map(lambda x: jnp.asarray(x)[:64], dict(data["inner_valid"]))
        metrics = task.metrics(params, family.eval_batch({"inner_valid": rows, "train": data["train"]}, "inner_valid"))
        return jnp.mean(losses[-50:]), metrics

    loss, metrics = train(family.data, jax.random.key(0))
    assert loss < (1 - setting.margin) * family.uninformed_loss
    assert "loss" in metrics and all(np.shape(value) == () and np.isfinite(value) for value in metrics.values())


def test_the_loss_in_metrics_is_a_mean_over_the_batch(name, family):
    if name in BATCH_NORMALISED:
        pytest.skip("its loss is a function of the whole batch")

    @jax.jit
    def halves_and_whole(data, key):
        task, params, batch = start(family, data, key, (8,))
        both = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), batch)
        # One after the other, so that the metrics are compiled twice and not three times.
        halves = jax.lax.map(lambda half: task.metrics(params, half)["loss"], both)
        return halves, task.metrics(params, batch)["loss"]

    halves, whole = halves_and_whole(family.data, jax.random.key(0))
    np.testing.assert_allclose(whole, np.mean(halves), rtol=1e-4)


def test_parameter_count_is_the_suites(name, family):
    def init(data):
        return start(family, data, jax.random.key(0))[1]

    assert sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(init, family.data))) == FAMILIES[name].num_params


def test_unknown_family_names_the_near_ones():
    with pytest.raises(ValueError, match="'fmnist8_mlp23': did you mean fmnist8_mlp32"):
        make_family("fmnist8_mlp23")
