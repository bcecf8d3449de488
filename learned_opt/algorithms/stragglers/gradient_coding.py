"""Gradient codes (Tandon et al. 2017, arXiv 1612.03301): the exact gradient, whichever s workers are late.

    worker i sends  c_i = sum_j B_ij g_j  of its s + 1 parts j of the data
    the server finds a with  sum_i a_i B_i = (1, ..., 1)  over the workers i in time, and has  sum_j g_j = sum_i a_i c_i

A part is what one worker has of the data of a round. Each worker computes s + 1 gradients. When more than s are late, a
solves the equations in least squares, and the gradient is near.

    fractional_repetition    s + 1 workers have the same s + 1 parts; s + 1 divides the number of workers
    cyclic                   worker i has parts i to i + s; coefficients from a random null space, any number of workers
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.algorithms.data_parallel import Shared
from learned_opt.algorithms.round import dense_bytes, gather, num_workers, worker_index
from learned_opt.algorithms.stragglers.gilbert_elliott import GilbertElliott, check_chain, next_state
from learned_opt.algorithms.weighted_sum import weighted_sum
from learned_opt.argument_checks import check_transform, checked_loss
from learned_opt.base import LocalAlgorithm, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float


class Worker(NamedTuple):
    """`is_slow`: whether this worker was late in the last round."""

    is_slow: Bool[Array, ""]


def fractional_repetition(num_workers: int, num_stragglers: int) -> Float[np.ndarray, "n n"]:
    """Blocks of ones.

    Raises:
      ValueError: as many stragglers as workers, or workers that do not fall into blocks.
    """
    _check_stragglers(num_workers, num_stragglers)
    size = num_stragglers + 1
    if num_workers % size:
        raise ValueError(
            f"num_workers={num_workers}: use a multiple of num_stragglers + 1 = {size}, or the cyclic code"
        )
    return np.kron(np.eye(num_workers // size), np.ones((size, size)))


def cyclic(num_workers: int, num_stragglers: int, seed: int = 0) -> Float[np.ndarray, "n n"]:
    """Cyclic runs of s + 1 coefficients; the rows of any n - s workers add up to ones with some factors.

    Of 32 random codes that with the smallest largest coefficient: large ones cancel, and digits with them.

    Raises:
      ValueError: as many stragglers as workers.
    """
    _check_stragglers(num_workers, num_stragglers)
    rng = np.random.default_rng(seed)
    codes = [_random_cyclic(rng, num_workers, num_stragglers) for _ in range(32 if num_stragglers else 1)]
    return min(codes, key=lambda code: np.abs(code).max())


def _random_cyclic(rng, num_workers, num_stragglers):
    code = np.eye(num_workers)
    # Every row is orthogonal to those of a random matrix, as the row of ones is.
    null = rng.normal(size=(num_stragglers, num_workers))
    null -= null.mean(axis=1, keepdims=True)
    for worker in range(num_workers):
        others = (worker + np.arange(1, num_stragglers + 1)) % num_workers
        code[worker, others] = -np.linalg.solve(null[:, others], null[:, worker])
    return code


def decoding(code: Float[Array, "n n"], is_here: Bool[Array, "n"]) -> Float[Array, "n"]:
    """a, of least squares and least norm, zero for workers that are late; float32."""
    equations = jnp.where(is_here[:, None], code, 0).T
    inverse, ones = jnp.linalg.pinv(equations), jnp.ones(code.shape[1])
    factors = inverse @ ones
    # Solved again for what is left: half of the digits are lost in the inverse.
    factors += inverse @ (ones - equations @ factors)
    # Of the late ones rounding would leave a trace.
    return jnp.where(is_here, factors, 0)


class Coder(NamedTuple):
    """What workers and server do with a code.

    Attributes:
      load: parts of the data that a worker computes gradients of, at most.
      sent: (loss_fn, params, key, batches of a worker) -> (coded loss, coded gradient in float32) of the worker; raises
        ValueError for another number of workers than the code has. To be used inside the named axis "workers".
      decoded: (what all workers sent, leaves [n, *shape]; whose has arrived [n]) -> its mean over the parts.
    """

    load: int
    sent: Callable[..., Any]
    decoded: Callable[..., Any]


def make_coder(code: np.ndarray) -> Coder:
    """The coder of a code [n, n].

    Raises:
      ValueError: a code that is not square, or that decodes from no workers, not even from all.
    """
    code = np.asarray(code)
    if code.ndim != 2 or code.shape[0] != code.shape[1]:
        raise ValueError(f"code has shape {code.shape}: use [workers, workers]")
    ones = np.ones(len(code))
    if not np.allclose(code.T @ np.linalg.lstsq(code.T, ones, rcond=None)[0], ones, atol=1e-4):
        raise ValueError("code: its rows do not add up to ones with any factors: use fractional_repetition or cyclic")
    # Parts and coefficients of each worker, those with fewer filled up with coefficients 0.
    load = int(np.count_nonzero(code, axis=1).max())
    parts = jnp.asarray(np.argsort(code == 0, axis=1, kind="stable")[:, :load])
    matrix = jnp.asarray(code, jnp.float32)

    def sent(loss_fn, params, key, batches):
        if num_workers() != code.shape[0]:
            raise ValueError(f"code is for {code.shape[0]} workers and there are {num_workers()}: use one for as many")
        loss_fn = checked_loss(loss_fn)
        everyone = gather(jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), batches))

        def part(total, index):
            batch = jax.tree.map(lambda x: x[index], everyone)
            own = jax.value_and_grad(loss_fn)(params, jax.random.fold_in(key, index), batch)
            coefficient = matrix[worker_index(), index]
            return jax.tree.map(lambda t, x: t + coefficient * x.astype(jnp.float32), total, own), None

        zeros = (jnp.float32(0), jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params))
        return jax.lax.scan(part, zeros, parts[worker_index()])[0]

    def decoded(all_sent, has_arrived):
        return weighted_sum(decoding(matrix, has_arrived) / code.shape[0], all_sent)

    return Coder(load, sent, decoded)


def is_late(chain: GilbertElliott, key: jax.Array, was_late: Bool[Array, ""]) -> Bool[Array, ""]:
    """Whether this worker is late in the round of a key, whose first n are those of the parts' losses."""
    chain_key = jax.random.fold_in(jax.random.fold_in(key, num_workers()), worker_index())
    return next_state(chain, chain_key, was_late)


def coded_step(
    opt: optax.GradientTransformationExtraArgs, opt_state: Any, params: Any, decoded: tuple[Any, Any]
) -> tuple[Any, Any]:
    """(parameters, state of the optimizer) after its step by a decoded loss and gradient."""
    loss, gradient = decoded
    gradient = jax.tree.map(lambda g, p: g.astype(p.dtype), gradient, params)
    updates, opt_state = opt.update(gradient, opt_state, params, value=loss)
    return optax.apply_updates(params, updates), opt_state


def coded_algorithm(init: Callable[..., Any], round_fn: Callable[..., Any], coder: Coder) -> LocalAlgorithm:
    """An algorithm whose workers send a coded loss and gradient a round, and that waits for nobody."""
    return LocalAlgorithm(
        init,
        round_fn,
        lambda state: state.shared.params,
        lambda params: dense_bytes(params) + 4,
        gradients=lambda num_steps: float(coder.load * num_steps),
        waits=False,
    )


def coded_data_parallel(
    opt: optax.GradientTransformation,
    code: np.ndarray,
    chain: GilbertElliott | None = None,
) -> LocalAlgorithm:
    """`data_parallel` that does not wait for late workers; diagnostics: `num_late`.

    The simulation hands a worker its parts of the data by gathering all; a deployment would store them there.

    Args:
      opt: as for `data_parallel`.
      code: B [n, n], from `fractional_repetition` or `cyclic`.
      chain: which workers are late; None: its defaults.

    Raises:
      ValueError: a code that is not square; by `round`, one for another number of workers.
    """
    check_transform(opt, "opt")
    coder = make_coder(code)
    opt, process = optax.with_extra_args_support(opt), check_chain(GilbertElliott() if chain is None else chain)

    def init(params):
        return RoundState(Shared(params, opt.init(params)), Worker(jnp.zeros((), bool)))

    def round_fn(loss_fn, state, key, batches):
        params, opt_state = state.shared
        num_steps = jax.tree.leaves(batches)[0].shape[0]
        sent = coder.sent(loss_fn, params, key, batches)
        is_slow = is_late(process, key, state.worker.is_slow)
        all_sent, is_here = gather((sent, ~is_slow))
        decoded = coder.decoded(all_sent, is_here)
        shared = Shared(*coded_step(opt, opt_state, params, decoded))
        info = RoundInfo(jnp.full((num_steps,), decoded[0]), {"num_late": jnp.sum((~is_here).astype(jnp.int32))})
        return RoundState(shared, Worker(is_slow)), info

    return coded_algorithm(init, round_fn, coder)


def _check_stragglers(num_workers, num_stragglers):
    if not 0 <= num_stragglers < num_workers:
        raise ValueError(f"num_stragglers={num_stragglers}: use 0 to num_workers - 1 = {num_workers - 1}")
