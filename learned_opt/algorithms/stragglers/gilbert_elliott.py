"""Which workers are slow: a chain of two states for each (Gilbert 1960; Elliott 1963), bursts and all.

    fast -> slow with probability p,   slow -> fast with probability q,   once a round

As measured on clusters (Krishnan et al. 2023, arXiv 2211.13802). In the long run a worker is slow for p / (p + q) of
the rounds, in bursts of 1 / q.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Bool


class GilbertElliott(NamedTuple):
    """The chain.

    Attributes:
      slow_down: p, a round.
      recover: q, a round.
    """

    slow_down: float | Array = 0.05
    recover: float | Array = 0.5


def participation(share: float) -> GilbertElliott:
    """Partial participation: a worker takes part in a round with probability `share`, whatever it did before.

    Raises:
      ValueError: no share above 0, up to 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: use more than 0 and at most 1")
    return GilbertElliott(1 - share, share)


def check_chain(chain: GilbertElliott) -> GilbertElliott:
    """The chain; traced probabilities pass.

    Raises:
      ValueError: something else, or probabilities that are none.
    """
    if not isinstance(chain, GilbertElliott):
        raise ValueError(f"chain={chain!r}: use GilbertElliott(slow_down, recover), or participation(share)")
    for name, value in chain._asdict().items():
        try:
            is_probability = 0 <= float(value) <= 1
        except jax.errors.ConcretizationTypeError:
            continue
        if not is_probability:
            raise ValueError(f"{name}={value}: use a probability, 0 to 1")
    return chain


def next_state(chain: GilbertElliott, key: jax.Array, is_slow: Bool[Array, "*workers"]) -> Bool[Array, "*workers"]:
    """One round on."""
    return jax.random.bernoulli(key, jnp.where(is_slow, 1 - chain.recover, chain.slow_down), jnp.shape(is_slow))
