"""Drawn problems in which fitting goes on without end: few examples, as a rule fewer than parameters, hardly any noise.

A loss of margins falls towards zero only by parameters that grow (Soudry et al. 2018, arXiv 1710.10345; Lyu & Li 2020,
arXiv 1906.05890); a squared error falls by exact interpolation, at a speed that curvature and the scale of the first
parameters set (Woodworth et al. 2020, arXiv 2002.09277), from plateau to plateau where that scale is small. The data
(`rows`), the model (`models`), the sizes, the scale and the loss are drawn:

    logistic       log(1 + exp(-y f))                 softmax        log(1 + sum_{j != y} exp(f_j - f_y))
    squared_hinge  max(0, 1 - y f)^2                  polynomial     (1 + y f)^-a where y f > 0, else 1 - a y f
    squared        (f - y)^2                          (Wang et al. 2021, arXiv 2112.12986, have such a tail)

as a mean over examples and outputs. Classes are one sign each, two classes one sign. No loss has a floor: each is exact
down to the smallest float32.

Held out, and so not drawn: logistic regression of two classes by one linear map (features have three or more classes or
answers), products of two matrices, random features of a ReLU, a ReLU layer below a fixed one, units that are squares,
measurements of a matrix, attention, parities and XOR, spirals, a signal in one of many patches. Tensors of low rank are
in META_TRAIN already; of relations, the entities have vectors as subjects and others as objects, most answers are signs
or objects, and the squared error of a few entries is one case of five.

A seed stands for one problem: its data are fixed, its initial parameters and batches are not.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tasks.base import Batch, Params, TaskFamily
from tasks.families.drawn.family import check_seed, drawn_family, entropy
from tasks.families.drawn.interpolation.choices import Choices, choices_of
from tasks.families.drawn.interpolation.models import initial, scores_of, shapes_of
from tasks.families.drawn.interpolation.rows import rows_of


def sampled_interpolation(seed: int = 0, name: str = "") -> TaskFamily:
    """The problem of a seed.

    Args:
      seed: decides everything but initial parameters and batches; see `choices_of`.
      name: the family's name; "sampled_interpolation_<seed>" where empty.

    Raises:
      ValueError: a negative seed.
    """
    check_seed(seed)
    choices = choices_of(seed)
    data = rows_of(choices, seed)
    return drawn_family(
        name or f"sampled_interpolation_{seed}",
        data,
        shapes_of(choices, data["train"]["x"].shape[1]),
        functools.partial(initial, choices),
        functools.partial(_loss, choices),
        uninformed_loss(choices, data["train"]["y"]),
    )


def _loss(choices: Choices, params: Params, batch: Batch) -> Float[Array, ""]:
    scores, y = scores_of(choices, params, batch["x"]), batch["y"]
    if choices.loss == "softmax":
        return jnp.mean(softmax_loss(scores, y))
    if choices.loss == "squared":
        return jnp.mean(jnp.square(scores - y))
    return jnp.mean(margin_loss(choices, scores * y))


def softmax_loss(scores: Float[Array, "batch classes"], labels: Int[Array, " batch"]) -> Float[Array, " batch"]:
    """Cross-entropy in nats. It keeps its digits where it is tiny, which a difference of two large numbers does not."""
    own = jax.nn.one_hot(labels, scores.shape[1], dtype=scores.dtype)
    ahead = scores - jnp.sum(own * scores, axis=1, keepdims=True)
    return jax.nn.softplus(jax.nn.logsumexp(jnp.where(own > 0, -jnp.inf, ahead), axis=1))


def margin_loss(choices: Choices, margin: Float[Array, "batch outputs"]) -> Float[Array, "batch outputs"]:
    """Loss of y f, by the names of the module's docstring."""
    if choices.loss == "logistic":
        return jax.nn.softplus(-margin)
    if choices.loss == "squared_hinge":
        return jnp.square(jax.nn.relu(1 - margin))
    return (1 + jnp.maximum(margin, 0)) ** -choices.tail + choices.tail * jnp.maximum(-margin, 0)


def uninformed_loss(choices: Choices, y: np.ndarray) -> float:
    """Loss of the best constant scores for answers y, in closed form."""
    if choices.loss == "squared":
        return float(np.mean(np.var(y, axis=0)))
    if choices.loss == "softmax":
        return entropy(np.bincount(y) / len(y))
    rarer = np.mean(y > 0, axis=0)
    rarer = np.minimum(rarer, 1 - rarer).astype(np.float64)
    if choices.loss == "logistic":
        entropies = -rarer * np.log(np.maximum(rarer, 1e-12)) - (1 - rarer) * np.log1p(-rarer)
        return float(np.mean(entropies))
    if choices.loss == "squared_hinge":
        return float(np.mean(4 * rarer * (1 - rarer)))
    # The slope (1 - q) a (1 + s)^(-a - 1) of the commoner sign meets q a of the rarer one.
    a = choices.tail
    size = (np.maximum(rarer, 1e-12) / (1 - rarer)) ** (-1 / (a + 1))
    return float(np.mean((1 - rarer) * size**-a + rarer * (1 + a * (size - 1))))
