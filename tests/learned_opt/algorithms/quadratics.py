"""Different quadratics on every worker, in JAX for the algorithms and in NumPy for what they are compared with.

    loss(x; batch) = mean over the batch of 1/2 sum(CURVATURE (x - target)^2)

x is the tree `PARAMS`, flattened; a batch is the targets of its examples, [batch, NUM_PARAMS].
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import learned_opt

NUM_PARAMS = 6
CURVATURE = np.linspace(0.5, 2.0, NUM_PARAMS).astype(np.float32)
PARAMS = {
    "a": np.float32(0.75),
    "b": np.asarray([[0.5, -1.0], [0.25, 2.0]], np.float32),
    "c": np.asarray([-0.5], np.float32),
}
KEY = jax.random.key(0)


def flat(params):
    """The tree as one vector; of a tree with a leading axis, pass its slices."""
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(params)])


def loss_fn(params, key, batch):
    del key
    return jnp.mean(0.5 * jnp.sum(CURVATURE[None] * jnp.square(flat(params)[None] - batch), axis=1))


def gradient(x, batch):
    """Of the loss, in NumPy: x [NUM_PARAMS], batch [batch, NUM_PARAMS]."""
    return CURVATURE * (x - batch.mean(axis=0))


def draw_batches(num_rounds, num_workers, num_local_steps, batch_size=2, seed=0, alike=False):
    """Targets [rounds, workers, local steps, batch, NUM_PARAMS], around a mean of each worker's own unless alike."""
    rng = np.random.default_rng(seed)
    shape = (num_rounds, 1 if alike else num_workers, num_local_steps, batch_size, NUM_PARAMS)
    means = rng.normal(size=(1, shape[1], 1, 1, NUM_PARAMS))
    targets = (means + 0.5 * rng.normal(size=shape)).astype(np.float32)
    return np.broadcast_to(targets, (num_rounds, num_workers, *shape[2:]))


def train(algorithm, batches, params=None, key=KEY):
    """States and infos after every round of a `LocalAlgorithm` of one worker, simulated.

    Returns:
      (parameters after every round [rounds, NUM_PARAMS], states, infos)
    """
    algorithm = learned_opt.simulate(algorithm, batches.shape[1])
    one_round = jax.jit(functools.partial(algorithm.round, loss_fn))
    state, path, states, infos = algorithm.init(PARAMS if params is None else params), [], [], []
    for t, batch in enumerate(batches):
        state, info = one_round(state, jax.random.fold_in(key, t), jnp.asarray(batch))
        path.append(flat(algorithm.params(state)))
        states.append(state)
        infos.append(info)
    return np.stack(path), states, infos


def start():
    """PARAMS as a float64 vector."""
    return np.asarray(flat(PARAMS), np.float64)


def assert_close(found, expected):
    """Float32 against float64, a dozen operations an element and round on numbers of order one."""
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-5, atol=1e-5)
