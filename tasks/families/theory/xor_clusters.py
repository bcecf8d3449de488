"""XOR clusters with label noise: memorise the flipped labels first, find the feature later.

    x ~ 1/4 N(mu_1, I) + 1/4 N(-mu_1, I) + 1/4 N(mu_2, I) + 1/4 N(-mu_2, I)
    mu_1 orthogonal to mu_2,   |mu_1| = |mu_2| = separation
    label y = +1 around +-mu_1 and -1 around +-mu_2; a fraction `flip_rate` of the training labels is flipped
    f(x) = sum_j a_j relu(w_j . x),   a_j = +-1/sqrt(width) fixed,   loss = mean log(1 + exp(-y f(x)))

The four clusters are not linearly separable. From Xu, Wang, Frei, Vardi and Hu (2023, "Benign Overfitting and Grokking
in ReLU Networks for XOR Cluster Data", arXiv 2310.02541): one large step fits the training labels, flipped ones
included, at chance on clean examples; many steps later the clean examples are right too. Deviations: minibatches rather
than the full batch, half of the output signs positive rather than each drawn, and sizes that fit a test.

The training set is fixed (seed 0), as memorising it is the subject; the validation and test labels are clean, so
`accuracy` on them is the clean accuracy.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily, samples_nothing
from tasks.batches import sample_rows, split_of, whole_rows


def bayes_accuracy(separation: float) -> float:
    """Clean accuracy of the best classifier, sign(|x . mu_1| - |x . mu_2|).

    Rotated by 45 degrees the two projections are independent with mean separation / sqrt(2) (up to sign), and the
    classifier is right where their signs agree with the cluster's: Phi(s)^2 + Phi(-s)^2.
    """
    right = 0.5 * (1 + math.erf(separation / 2))
    return right**2 + (1 - right) ** 2


def xor_clusters(
    num_features: int = 40,
    width: int = 64,
    separation: float = 4.0,
    flip_rate: float = 0.1,
    num_train: int = 256,
    name: str = "xor_clusters",
) -> TaskFamily:
    """Two-layer ReLU network with fixed output weights on XOR clusters.

    Args:
      num_features: dimension of x.
      width: hidden units, even.
      separation: distance of each cluster's mean from the origin, in units of the clusters' standard deviation.
      flip_rate: fraction of the training labels that is flipped, in [0, 0.5).
      num_train: training examples; every other split has 512.
      name: the family's name.

    Raises:
      ValueError: fewer than two features, an odd width, or a flip rate outside [0, 0.5).
    """
    if num_features < 2:
        raise ValueError(f"num_features={num_features}: two orthogonal means need at least 2")
    if width < 2 or width % 2:
        raise ValueError(f"width={width}: use an even number, for as many positive output weights as negative ones")
    if not 0 <= flip_rate < 0.5:
        raise ValueError(f"flip_rate={flip_rate}: use a fraction in [0, 0.5)")
    data = clusters(num_features, separation, flip_rate, num_train)

    def task(task_config: TaskConfig, data: Data) -> Task:
        del task_config

        def init(key: jax.Array) -> Params:
            return {"hidden": jax.random.normal(key, (num_features, width), jnp.float32) * num_features**-0.5}

        def margins(params: Params, batch: Batch) -> Float[Array, " batch"]:
            hidden = jax.nn.relu(batch["x"] @ params["hidden"])
            positive, negative = jnp.split(hidden, 2, axis=-1)
            output = jnp.sum(positive - negative, axis=-1) * width**-0.5
            return output * batch["label"].astype(output.dtype)

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            return jnp.mean(jax.nn.softplus(-margins(params, batch)))

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            margin = margins(params, batch)
            return {
                "loss": jnp.mean(jax.nn.softplus(-margin)),
                "accuracy": jnp.mean((margin > 0).astype(jnp.float32)),
            }

        return Task(init, loss, sample_batch, metrics)

    # The best constant guess knows only that both labels are equally likely: output 0.
    return TaskFamily(name, data, samples_nothing, task, math.log(2), whole_rows)


def clusters(num_features: int, separation: float, flip_rate: float, num_train: int) -> Data:
    """Clusters of equal size with means along two random orthogonal directions; labels are int32, +1 or -1."""
    rng = np.random.default_rng(0)
    directions, _ = np.linalg.qr(rng.standard_normal((num_features, 2)))
    data = {}
    for split in SPLITS:
        size = num_train if split == "train" else 512
        axis, sign = np.divmod(rng.permutation(size) % 4, 2)
        x = rng.standard_normal((size, num_features)) + separation * (2 * sign - 1)[:, None] * directions.T[axis]
        flipped = np.zeros(size, bool)
        if split == "train":
            flipped[rng.choice(size, round(flip_rate * size), replace=False)] = True
        label = np.where(flipped, 2 * axis - 1, 1 - 2 * axis)
        data[split] = {"x": x.astype(np.float32), "label": label.astype(np.int32)}
    return data
