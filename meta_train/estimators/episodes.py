"""Episodes of inner training as estimators by truncation see them: they begin with a new task, and end at a truncation
boundary.

First episodes are shortened at random, so that the ages of the particles are spread from the start (Vicol, Metz &
Sohl-Dickstein 2021, arXiv 2112.13835); each keeps a whole number of its truncations.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from meta_train.estimators.truncation import TruncationSchedule
from meta_train.estimators.unroll import InnerState, Unroll
from meta_train.flat_theta import FlatTheta


class Episode(NamedTuple):
    """A task in training.

    Attributes:
      inner: its inner state.
      age: rounds since it began.
      unroll_length: rounds it lasts; 0 before the first one.
    """

    inner: InnerState
    age: Int[Array, "*particles"]
    unroll_length: Int[Array, "*particles"]


BeginEpisode = Callable[[FlatTheta, jax.Array, Int[Array, ""], Any, Bool[Array, ""]], Episode]
"""(theta, key, meta_step, data, first) -> Episode; `first`: whether it is the particle's very first."""


def begin_episode(unroll: Unroll, schedule: TruncationSchedule) -> BeginEpisode:
    """What begins an episode."""

    def begin(theta, key, meta_step, data, first):
        episode_key, length_key, stagger_key = jax.random.split(key, 3)
        length = schedule.length(length_key, meta_step)
        shortened = jax.random.randint(stagger_key, (), 1, length // unroll.truncation_length + 1)
        length = jnp.where(first, shortened * unroll.truncation_length, length)
        return Episode(unroll.reset(theta, episode_key, data, length), jnp.int32(0), length)

    return begin


def restart_if_ended(fresh: Episode, episode: Episode) -> Episode:
    """The fresh episode if the other has ended, else the other."""
    ended = episode.age >= episode.unroll_length
    return choose(ended, fresh, episode)


def choose(condition: Bool[Array, ""], new: Any, old: Any) -> Any:
    """One tree where the condition holds, else the other."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def episode_shapes(begin: BeginEpisode, theta: FlatTheta, key: jax.Array, data: Any) -> Episode:
    """Shapes of an episode; filled with zeros it has length 0, so that the first step begins another and nothing needs
    to be compiled before."""
    return jax.eval_shape(begin, theta, key, jnp.int32(0), data, jnp.bool(True))
