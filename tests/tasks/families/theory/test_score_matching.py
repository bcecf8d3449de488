import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.families.theory.score_matching import mixture_score, score_matching


def test_score_is_the_gradient_of_the_log_density():
    rng = np.random.default_rng(0)
    x, means = rng.standard_normal((6, 2)), rng.standard_normal((6, 3, 2))
    variance = rng.uniform(0.1, 2.0, 6)
    x, means, variance = (jnp.asarray(leaf, jnp.float32) for leaf in (x, means, variance))

    def log_density(x, means, variance):
        squares = jnp.sum((x[None] - means) ** 2, axis=-1)
        return jnp.log(jnp.mean(jnp.exp(-squares / (2 * variance)) / (2 * jnp.pi * variance)))

    expected = jax.vmap(jax.grad(log_density))(x, means, variance)
    np.testing.assert_allclose(mixture_score(x, means, variance), expected, rtol=1e-4, atol=1e-5)


def examples(num_examples, component_std, means, seed=0):
    """The noised mixture in NumPy on the grid of eight times: x_t, e, (a_t, s_t)."""
    rng = np.random.default_rng(seed)
    angle = (np.arange(num_examples) % 8 + 0.5) / 8 * np.pi / 2
    a, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x0 = means[rng.integers(0, len(means), num_examples)] + component_std * rng.standard_normal((num_examples, 2))
    e = rng.standard_normal((num_examples, 2))
    return a * x0 + s * e, e, a, s


def test_the_true_score_minimises_the_denoising_loss():
    """Moving away from it by any function of (x_t, t) adds that function's mean square: the cross term is zero."""
    means = np.array([[1.0, 0.5], [-1.0, 0.0], [0.3, -1.2]])
    n = 400_000
    x, e, a, s = examples(n, 0.2, means)
    variance = (a**2 * 0.2**2 + s**2)[:, 0]
    to_components = jnp.asarray(a[:, None] * means[None], jnp.float32)
    score = mixture_score(jnp.asarray(x, jnp.float32), to_components, jnp.asarray(variance, jnp.float32))
    output = s * np.asarray(score, np.float64)
    for moved in (0.3 * np.sin(x) * s, 0.2 * x[:, ::-1] * a, -0.3 * output):
        added = np.sum((output + moved + e) ** 2, -1) - np.sum((output + e) ** 2, -1) - np.sum(moved**2, -1)
        assert abs(added.mean()) < 4 * added.std() / n**0.5
        assert np.mean(np.sum(moved**2, -1)) > 0.01


def test_one_gaussian_leaves_the_known_constant():
    """K = 1: with v = a^2 tau^2 + s^2, E e given x_t is s (x_t - a mu) / v, so the least loss is 2 a^2 tau^2 / v."""
    family = score_matching(num_components=1, component_std=0.5)
    config = family.sample(jax.random.key(0))
    rows = family.eval_batch(family.data, "train")
    angle = (np.asarray(rows["time_index"]) + 0.5) / 8 * np.pi / 2
    a, s = np.cos(angle), np.sin(angle)
    v = a**2 * 0.25 + s**2
    # A linear network would do; here the closed form stands in for it, through the metrics' own parts.
    x0 = np.asarray(config["means"])[0] + 0.5 * np.asarray(rows["z"])
    x = a[:, None] * x0 + s[:, None] * np.asarray(rows["e"])
    score = mixture_score(
        jnp.asarray(x, jnp.float32),
        jnp.asarray(a[:, None, None] * np.asarray(config["means"])[None], jnp.float32),
        jnp.asarray(v, jnp.float32),
    )
    losses = np.sum((s[:, None] * np.asarray(score) + np.asarray(rows["e"])) ** 2, -1)
    constant = np.mean(2 * a**2 * 0.25 / v)
    assert abs(losses.mean() - constant) < 4 * losses.std() / len(losses) ** 0.5
    assert 0.05 < constant < 1.5


def test_metrics_are_the_written_out_formulas():
    family = score_matching(num_components=3, width=5)
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    params = jax.jit(task.init)(jax.random.key(1))
    batch = jax.jit(lambda key: task.sample_batch(key, "train", (6,)))(jax.random.key(2))
    raw = {name: np.asarray(leaf) for name, leaf in batch.items()}
    means = np.asarray(config["means"], np.float64)
    t = (raw["time_index"] + 0.5) / 8
    a, s = np.cos(np.pi * t / 2)[:, None], np.sin(np.pi * t / 2)[:, None]
    x = a * (means[raw["component"]] + 0.2 * raw["z"].astype(np.float64)) + s * raw["e"]
    h = np.concatenate([x, a, s], axis=-1)
    for i, name in enumerate(sorted(params)):
        h = h @ np.asarray(params[name]["kernel"], np.float64) + np.asarray(params[name]["bias"])
        h = h / (1 + np.exp(-h)) if i < 2 else h
    loss = np.mean(np.sum((h + raw["e"]) ** 2, -1))
    weights = np.exp(-np.sum((x[:, None] - a[:, None] * means) ** 2, -1) / (2 * (a**2 * 0.04 + s**2)))
    weights /= weights.sum(-1, keepdims=True)
    truth = (weights @ means * a - x) / (a**2 * 0.04 + s**2)
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["score_error"], np.mean(np.sum((h - s * truth) ** 2, -1)), rtol=1e-4)
    np.testing.assert_allclose(task.loss(params, jax.random.key(0), batch), loss, rtol=1e-4)


def test_every_split_has_every_time_equally_often_and_its_own_examples():
    data = score_matching(num_components=4, num_times=8).data
    for split in SPLITS:
        times = np.bincount(data[split]["time_index"])
        assert len(times) == 8 and len(set(times)) == 1
    noise = np.concatenate([data[split]["e"] for split in SPLITS])
    assert len(np.unique(noise, axis=0)) == len(noise)


@pytest.mark.parametrize(
    "arguments, message", [({"num_times": 0}, "num_times=0"), ({"component_std": 0.0}, "component_std=0.0")]
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        score_matching(**arguments)
