import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.families.sequences.modular_arithmetic import modular_arithmetic, split_pairs, stablemax_cross_entropy


def test_every_pair_is_in_exactly_one_split():
    data = split_pairs(7)
    assert [len(data[split]["label"]) for split in SPLITS] == [20, 10, 10, 9]
    pairs = np.concatenate([data[split]["operands"] for split in SPLITS])
    assert sorted(map(tuple, pairs)) == [(a, b) for a in range(7) for b in range(7)]
    labels = np.concatenate([data[split]["label"] for split in SPLITS])
    assert list(labels) == [(a + b) % 7 for a, b in pairs.tolist()]
    # Each residue equally often: the uniform guess is the best constant one.
    assert (np.bincount(labels) == 7).all()


def test_stablemax_by_hand():
    """s(3) = 4, s(0) = 1, s(-1) = 1/2, s(-4) = 1/5; their sum is 5.7."""
    logits = jnp.array([3.0, 0.0, -1.0, -4.0])
    losses = [stablemax_cross_entropy(logits, jnp.asarray(label)) for label in range(4)]
    np.testing.assert_allclose(losses, -np.log(np.array([4, 1, 0.5, 0.2]) / 5.7), rtol=1e-6)


def test_stablemax_has_slope_one_at_zero_and_no_collapse():
    # d/dz of -log p_0 at z = (0, 0) is p_0 - 1 times s'/s = 1.
    slope = jax.grad(lambda z: stablemax_cross_entropy(z, jnp.asarray(0)))(jnp.zeros(2))
    np.testing.assert_allclose(slope, [-0.5, 0.5])
    # Logits for which the softmax loss rounds to zero: here (101 + 1/101) / 101, that is 1 + 1e-4.
    loss = stablemax_cross_entropy(jnp.array([100.0, -100.0]), jnp.asarray(0))
    np.testing.assert_allclose(loss, np.log1p(1 / 101**2), rtol=1e-2)


@pytest.mark.parametrize("stablemax", [False, True])
def test_metrics_are_the_written_out_formulas(stablemax):
    family = modular_arithmetic(5, (6, 4), stablemax=stablemax)
    task = family.task({}, family.data)
    params = jax.tree.map(lambda p: 3 * p, jax.jit(task.init)(jax.random.key(0)))
    batch = family.eval_batch(family.data, "train")
    operands, label = np.asarray(batch["operands"]), np.asarray(batch["label"])
    first, second, last = (np.asarray(params[name]["kernel"], np.float64) for name in sorted(params))
    # A two-hot input picks two rows of the first matrix.
    h = np.maximum(np.maximum(first[operands[:, 0]] + first[5 + operands[:, 1]], 0) @ second, 0)
    z = h @ last
    s = np.where(z >= 0, z + 1, 1 / (1 - np.minimum(z, 0))) if stablemax else np.exp(z)
    losses = -np.log(s[np.arange(len(label)), label] / s.sum(-1))
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose(metrics["loss"], losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], (z.argmax(-1) == label).mean())
    assert metrics["zero_loss_fraction"] == 0
    np.testing.assert_allclose(task.loss(params, jax.random.key(0), batch), losses.mean(), rtol=1e-5)


def test_softmax_collapses_where_stablemax_does_not():
    """Parameters that answer every pair of p = 3 rightly: the hidden units are the pairs, then scaled up."""
    pairs = np.array([(a, b) for a in range(3) for b in range(3)])
    first = np.zeros((6, 9), np.float32)
    for unit, (a, b) in enumerate(pairs):
        first[[a, 3 + b], unit] = 1
        first[[i for i in range(6) if i not in (a, 3 + b)], unit] = -1
    answer = np.eye(3, dtype=np.float32)[pairs.sum(-1) % 3]
    weights = {"Dense_0": {"kernel": first}, "Dense_1": {"kernel": 20 * answer}}
    params = jax.tree.map(jnp.asarray, weights)
    fractions = []
    for stablemax in (False, True):
        family = modular_arithmetic(3, (9,), stablemax=stablemax)
        metrics = family.task({}, family.data).metrics(params, family.eval_batch(family.data, "test"))
        assert metrics["accuracy"] == 1
        fractions.append(float(metrics["zero_loss_fraction"]))
    assert fractions == [1.0, 0.0]


def test_published_size():
    family = modular_arithmetic(113, (200, 200))
    params = jax.eval_shape(family.task({}, family.data).init, jax.random.key(0))
    assert sum(p.size for p in jax.tree.leaves(params)) == 226 * 200 + 200 * 200 + 200 * 113


@pytest.mark.parametrize("arguments, message", [({"modulus": 2}, "modulus=2"), ({"hidden_sizes": (0,)}, r"\(0,\)")])
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        modular_arithmetic(**arguments)
