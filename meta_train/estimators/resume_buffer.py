"""A resume buffer: episodes that go on from a stored inner state instead of new parameters (ELO, 2026, the successor of
Celo2, arXiv 2602.19142).

When a pair's episode has ended, the next begins with probability p in a state that the pair has met, with the
accumulator that belongs to it, and lasts as many rounds more as the schedule says. So trainings grow far past the
longest episode while truncations stay as short as they are. What is stored is where training got worse: with the
losses l_t of an episode, both signs averaged,

    V_t = max(0, V_{t-1} + l_t - l_{t-1})                          CUSUM of the increases (Page 1954)

and the state before a truncation is stored when the truncation raised max V, and before the last one of an episode.
A full buffer loses its oldest state.

Restoring the accumulator with the state is what keeps PES unbiased: it is the sum of the perturbations that the state
has seen. Whether to resume is drawn from a key alone, and what is stored depends on losses averaged over both signs, so
that it is the same for eps and -eps; what it changes in the spread of the stored perturbations is of the order of the
smoothing by sigma.

Deviations: V starts at 0 with every episode, a state is not stored when a whole truncation after it was clamped under a
sign (the pair would train a lost cause from then on), and which of several states is taken is drawn uniformly.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from meta_train.estimators.episodes import choose
from meta_train.estimators.truncation import ResumeRule

_KEY = 1_920_298_854
"""Keeps the draws of the buffer apart from those of an episode, whose key is split into a few."""


class Slot(NamedTuple):
    """A state that an episode can go on from.

    Attributes:
      inner: inner states of the pair, as in `PairState`.
      accumulator: of the perturbations that they have seen.
      age: rounds since their training began.
    """

    inner: Any
    accumulator: Any
    age: Int[Array, "*pairs"]


class ResumeBuffer(NamedTuple):
    """What a pair has stored; every leaf gets a leading [pairs] axis.

    Attributes:
      slots: the newest of them, in the order of a ring.
      num_stored: how often a state was stored.
      cusum: V of the running episode.
      peak: its maximum.
      last_loss: of the last round.
    """

    slots: tuple[Slot, ...]
    num_stored: Int[Array, "*pairs"]
    cusum: Float[Array, "*pairs"]
    peak: Float[Array, "*pairs"]
    last_loss: Float[Array, "*pairs"]


def empty_buffer(slot: Slot, num_slots: int) -> ResumeBuffer:
    """A buffer that holds nothing; `slot`: arrays of the right shapes."""
    zero = jnp.float32(0)
    return ResumeBuffer((slot,) * num_slots, jnp.int32(0), zero, zero, zero)


def draw_slot(buffer: ResumeBuffer, rule: ResumeRule, episode_key: jax.Array) -> tuple[Bool[Array, ""], Slot]:
    """Whether an episode that begins now is resumed, and the state that it goes on from (any if it is not)."""
    whether_key, which_key = jax.random.split(jax.random.fold_in(episode_key, _KEY))
    resumes = (buffer.num_stored > 0) & (jax.random.uniform(whether_key) < rule.probability)
    num_filled = jnp.clip(buffer.num_stored, 1, rule.num_slots)
    return resumes, _at(buffer.slots, jax.random.randint(which_key, (), 0, num_filled))


def store(
    buffer: ResumeBuffer,
    before: Slot,
    losses: Float[Array, "rounds"],
    begins: Bool[Array, ""],
    ends: Bool[Array, ""],
    is_lost: Bool[Array, ""],
) -> ResumeBuffer:
    """The buffer after a truncation.

    Args:
      buffer: before it.
      before: where the truncation started.
      losses: of its rounds, both signs averaged.
      begins: whether it was the first of the episode, resumed or new.
      ends: whether it was the last one.
      is_lost: whether the state must not be stored.
    """
    previous = jnp.concatenate([jnp.where(begins, losses[0], buffer.last_loss)[None], losses[:-1]])
    cusum, peak = (jnp.where(begins, 0, value) for value in (buffer.cusum, buffer.peak))

    def one_round(carry, increase):
        cusum, peak = carry
        cusum = jnp.maximum(0, cusum + increase)
        return (cusum, jnp.maximum(peak, cusum)), None

    (cusum, new_peak), _ = jax.lax.scan(one_round, (cusum, peak), losses - previous)
    stores = ((new_peak > peak) | ends) & ~is_lost
    newest = buffer.num_stored % len(buffer.slots)
    slots = tuple(choose(stores & (newest == place), before, slot) for place, slot in enumerate(buffer.slots))
    return ResumeBuffer(slots, buffer.num_stored + stores.astype(jnp.int32), cusum, new_peak, losses[-1])


def _at(slots: tuple[Slot, ...], place: Int[Array, ""]) -> Slot:
    found = slots[0]
    for index, slot in enumerate(slots[1:], 1):
        found = choose(place == index, slot, found)
    return found
