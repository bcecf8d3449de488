"""Neural collapse: how near the last layer's features are to one vector a class, at equal norms and angles.

    NC1     tr(S_W pinv(S_B)) / C                     0: every example lies on its class mean
    NC2     coefficient of variation of |m_c|, and mean over c != d of |cos(m_c, m_d) + 1 / (C - 1)|
    NC3     | W / |W| - M / |M| |                     0: the classifier's columns are the class means

m_c are the class means less their own mean, M = [m_1 ... m_C], S_B = M M^T / C, S_W the covariance of the examples
around the means of their classes (Papyan, Han and Donoho 2020, arXiv 2008.08186; Tirer, Huang and Niles-Weed 2022,
arXiv 2210.16658). The norms |m_c| themselves, smallest and largest, tell how unequal classes fare, as they do when
their sizes differ (Dang et al. 2023, arXiv 2301.00437); `class_norms` has all of them. C counts the classes that are in
the batch. Features are recovered from the loss, see `class_outputs`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from eval.diagnostics.base import Diagnostic, Snapshot
from eval.diagnostics.class_outputs import at_path, features, last_layer
from eval.diagnostics.requirements import LAST_LAYER


class ClassMeans(NamedTuple):
    """Means of the features of each class.

    Attributes:
      centred: less the mean of all of them; zero for a class that is not in the batch.
      within: features of every example less the mean of its class.
      present: which classes are in the batch.
    """

    centred: Float[Array, "classes features"]
    within: Float[Array, "examples features"]
    present: Bool[Array, "classes"]


def nc1(snapshot: Snapshot) -> Float[Array, ""]:
    """NC1: spread within classes over that between them, 0 when collapsed (Papyan 2020, 2008.08186)."""
    means = class_means(snapshot)
    # tr(S_W pinv(S_B)) / C is the mean square of the examples' deviations in units of the means.
    return jnp.mean(jnp.sum((means.within @ jnp.linalg.pinv(means.centred)) ** 2, axis=1))


def nc2_norms(snapshot: Snapshot) -> Float[Array, ""]:
    """NC2: variation of the class means' norms, 0 when collapsed (Papyan 2020, 2008.08186)."""
    means = class_means(snapshot)
    norms = _norms(means)
    average = _mean(norms, means.present)
    return jnp.sqrt(_mean((norms - average) ** 2, means.present)) / average


def nc2_angles(snapshot: Snapshot) -> Float[Array, ""]:
    """NC2: distance of the class means' cosines from -1 / (C - 1), 0 when collapsed (Papyan 2020, 2008.08186)."""
    means = class_means(snapshot)
    norms = jnp.where(means.present, _norms(means), 1)
    cosines = means.centred @ means.centred.T / (norms[:, None] * norms[None, :])
    pairs = means.present[:, None] & means.present[None, :] & ~jnp.eye(len(norms), dtype=bool)
    number = jnp.sum(means.present.astype(jnp.float32))
    return _mean(jnp.abs(cosines + 1 / (number - 1)), pairs)


def nc3(snapshot: Snapshot) -> Float[Array, ""]:
    """NC3: distance of last layer and class means, each of norm 1, 0 when collapsed (Papyan 2020, 2008.08186)."""
    means = class_means(snapshot)
    assert snapshot.num_classes is not None
    path = last_layer(snapshot.params, snapshot.num_classes)
    assert path is not None
    weights = jnp.where(means.present[None, :], at_path(snapshot.params, path).astype(jnp.float32), 0)
    unit_weights, unit_means = (x / jnp.linalg.norm(x) for x in (weights, means.centred.T))
    return jnp.linalg.norm(unit_weights - unit_means)


def smallest_class_norm(snapshot: Snapshot) -> Float[Array, ""]:
    """Norm of the smallest centred class mean; small for neglected classes (Dang 2023, 2301.00437)."""
    means = class_means(snapshot)
    return jnp.min(jnp.where(means.present, _norms(means), jnp.inf))


def largest_class_norm(snapshot: Snapshot) -> Float[Array, ""]:
    """Norm of the largest centred class mean (Dang 2023, 2301.00437)."""
    return jnp.max(_norms(class_means(snapshot)))


def class_norms(snapshot: Snapshot) -> Float[Array, "classes"]:
    """Norm of the centred mean of every class; nan for one that is not in the batch."""
    means = class_means(snapshot)
    return jnp.where(means.present, _norms(means), jnp.nan)


def class_means(snapshot: Snapshot) -> ClassMeans:
    """Means of the features of each class in the batch."""
    assert snapshot.num_classes is not None
    h = features(snapshot).astype(jnp.float32)
    member = jax.nn.one_hot(snapshot.batch["label"], snapshot.num_classes, dtype=jnp.float32)
    sizes = jnp.sum(member, axis=0)
    present = sizes > 0
    means = member.T @ h / jnp.maximum(sizes, 1)[:, None]
    centre = jnp.sum(means, axis=0, keepdims=True) / jnp.sum(present.astype(jnp.float32))
    return ClassMeans(jnp.where(present[:, None], means - centre, 0), h - member @ means, present)


def _norms(means: ClassMeans) -> Float[Array, "classes"]:
    return jnp.linalg.norm(means.centred, axis=1)


def _mean(values: Array, counted: Array) -> Float[Array, ""]:
    return jnp.sum(jnp.where(counted, values, 0)) / jnp.sum(counted.astype(jnp.float32))


NEURAL_COLLAPSE = tuple(
    Diagnostic(measure.__name__, "snapshot", measure, LAST_LAYER)
    for measure in (nc1, nc2_norms, nc2_angles, nc3, smallest_class_norm, largest_class_norm)
)
