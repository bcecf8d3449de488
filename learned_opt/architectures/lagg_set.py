"""LAgg-Set: a learned round for any number of workers and local steps, one theta for all of them.

Its anchor is `auto_diloco` with relative RMSProp workers, and with the output layers at zero it is that rule to the
last bit. Two small networks correct it. A *controller* reads what the round says about each tensor (`round_features`)
and sets

    log r  <- clip(log r + z_0 / (1 + t / 32) + z_9 (cos_i - cos))
                                        offset of the tensor's local rate from the rule's, accumulated over rounds t: a
                                        constant z_0 gives a power of t, whatever the horizon; and at pace z_9 the rate
                                        of tensor i follows its own cosine of D and D' where it is not that of all
    rate    = s r exp(z_1)              what the workers multiply their local updates of the tensor by
    a'      = a exp(z_2)                the tensor's server rate
    b'      = b + (1 - b)(1 - exp(z_3)) its momentum: 1 - b' = (1 - b) exp(z_3)
    c'      = c + (1 - c)(1 - exp(z_4)) decay of the average that is evaluated (z_4: mean over tensors)
    kappa'  = kappa exp(z_7)            how fast the rule's rate follows the rounds (z_7: mean over tensors)
    tau'    = tau + z_8                 the cosine at which it stays (z_8: mean over tensors)
    w      <- clip(w + z_6, -1, 0)      what the rounds have said against orthogonal steps of the tensor
    q       = clip(z_5 + w, 0, 1)       share of the orthogonal step (Jordan et al. 2024, Muon) in that of a matrix

with every z = (its bound) tanh(output) and u = orth(v) the orthogonal matrix of v with the Frobenius norm of v, so that
the rule for the rates holds for any share. What says whether orthogonal steps are right is the cosine of successive
ones (`round_features`), so their share follows the rounds as the rate does. A per-parameter MLP, fed the
pseudo-gradient, the momentum, their statistics over the workers and the controller's hidden units (its features where
it has none), adds a correction in units of the pseudo-gradient's root mean square,

    v = D + b' m;   x <- x - a' (v + q (u - v)) - a' rms(D) d exp(g),      (d, g) = MLP(...)

All inputs are free of the scale of tensors and losses, symmetric in the workers and had by all-reduce. The weights act
on every tensor alike, so the update is equivariant to permutations of tensors. A deviation from LAgg-A (Joseph et al.
2025, arXiv 2312.02204), whose MLP reads the K workers' updates in their order and is tied to K.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.auto_diloco import (
    AVERAGE,
    KAPPA,
    LEARNING_RATE,
    MOMENTUM,
    NO_COSINE,
    TAU,
    WORKER_FLOOR,
    averaged_with,
    copied,
    cosine_of,
    is_cosine,
    next_log_rate,
    squared_norm,
    surviving_mean,
)
from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.entry_correction import NUM_CHANNELS, channels, correction, worker_statistics
from learned_opt.per_parameter.newton_schulz import orthogonal_of_equal_norm
from learned_opt.per_parameter.round_features import (
    LOSS_DECAYS,
    NUM_FEATURES,
    Reading,
    round_features,
    running_within,
    tensor_cosines,
    tensor_sums,
)

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PyTree

BOUNDS = (0.25, 0.7, 0.7, 1.2, 1.2, 1.0, 0.25, 2.5, 0.3, 0.1)
"""Largest absolute value of z_0 .. z_9. A share above 1 makes single machines with small batches diverge."""
LARGEST_OFFSET = 3.0
"""Largest absolute value of log r."""
OFFSET_ROUNDS = 32
"""Rounds after which offsets have slowed down to a half."""
SECOND_MOMENT_DECAY = 0.9


class LaggSetState(NamedTuple):
    """State of the transform; four or five floats per parameter.

    Attributes:
      num_updates: rounds taken.
      momentum: m, float32.
      previous: D of the round before, float32.
      second_moment: running mean of D^2, float32; empty without the per-parameter MLP.
      log_rate: log s of the rule.
      offsets: log r of each tensor.
      withdrawals: w of each tensor.
      shares: q of each tensor; 0 for vectors and scalars.
      orthogonal: u of the round before, float32; v where the tensor is no matrix.
      step_cosines: cos(u, u') of each tensor over the last two rounds; `NO_COSINE` before.
      losses: running means of the loss; infinite before the first.
      within: running mean of the loss's trend within rounds.
      lowest: the lowest of the first of `losses` so far.
      local_rates: what the workers multiply their local updates of each tensor by.
      averaged_params: the average of the global parameters, float32, which is evaluated.
    """

    num_updates: Int[Array, ""]
    momentum: PyTree
    previous: PyTree
    second_moment: PyTree
    log_rate: Float[Array, ""]
    offsets: Float[Array, "tensors"]
    withdrawals: Float[Array, "tensors"]
    shares: Float[Array, "tensors"]
    orthogonal: PyTree
    step_cosines: Float[Array, "tensors"]
    losses: Float[Array, "means"]
    within: Float[Array, ""]
    lowest: Float[Array, ""]
    local_rates: PyTree
    averaged_params: PyTree


def lagg_set(
    controller_size: int = 16,
    hidden_size: int = 8,
    learning_rate: float = LEARNING_RATE,
    momentum: float = MOMENTUM,
    kappa: float = KAPPA,
    tau: float = TAU,
    average: float = AVERAGE,
    floor: float = WORKER_FLOOR,
) -> LearnedOptimizer:
    """LAgg-Set: a learned round for any number of workers and local steps.

    Args:
      controller_size: hidden units of the controller; 0 makes it linear in its features.
      hidden_size: hidden units of the per-parameter MLP; 0 leaves it out.
      learning_rate, momentum, kappa, tau, average: of the anchor, see `auto_diloco`; average above 0.
      floor: smallest root mean square that a tensor counts with; that of the workers' relative steps.

    Raises:
      ValueError: a negative size, or an average that is no decay.
    """
    if controller_size < 0:
        raise ValueError(f"controller_size={controller_size}: use 0 (a linear controller) or more units")
    if not 0 < average < 1:
        raise ValueError(f"average={average}: use a decay between 0 and 1")
    if hidden_size < 0:
        raise ValueError(f"hidden_size={hidden_size}: use 0 (none) or more units")
    config = {
        "architecture": "lagg_set",
        "controller_size": controller_size,
        "hidden_size": hidden_size,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "kappa": kappa,
        "tau": tau,
        "average": average,
        "floor": floor,
    }

    rule = _Rule(learning_rate, momentum, kappa, tau, average)

    def init(key):
        keys = jax.random.split(key, 3)
        theta = {"controller": _network(keys[0], NUM_FEATURES, controller_size, len(BOUNDS))}
        if hidden_size:
            theta["parameter"] = _network(keys[1], NUM_CHANNELS, hidden_size, 2)
            theta["parameter"]["w_tensor"] = _scaled(keys[2], controller_size or NUM_FEATURES, hidden_size)
        return theta

    def transform(theta, num_steps=None):
        return _transform(theta, rule, hidden_size, floor, num_steps)

    return LearnedOptimizer(init, transform, config, reads="statistics")


class _Rule(NamedTuple):
    """The anchor's numbers."""

    learning_rate: float
    momentum: float
    kappa: float
    tau: float
    average: float


class _Decided(NamedTuple):
    """What the controller has set; arrays of all tensors, but for `log_rate` and `average`, which are one number."""

    log_rate: Float[Array, ""]
    offsets: Float[Array, "tensors"]
    withdrawals: Float[Array, "tensors"]
    rate: Float[Array, "tensors"]
    server: Float[Array, "tensors"]
    decay: Float[Array, "tensors"]
    share: Float[Array, "tensors"]
    average: Float[Array, ""]


def _transform(theta, rule, hidden_size, floor, num_steps):
    """The round's optax transform; `rule` a `_Rule`, the others as in `lagg_set`."""

    def update(updates, state, params=None, *, worker_mean=None, num_workers=1, value=None, losses=None, **extra: Any):
        del extra
        if params is None:
            raise ValueError("params is None: call update(updates, state, params), the features read the parameters")
        delta = surviving_mean(updates, worker_mean)
        leaves, treedef = jax.tree.flatten(delta)
        momenta, previous, before, xs = (
            treedef.flatten_up_to(t) for t in (state.momentum, state.previous, state.orthogonal, params)
        )
        xs = [x.astype(jnp.float32) for x in xs]
        sums = tensor_sums(leaves, previous, momenta, before, xs, worker_mean)
        in_round = None if losses is None else jnp.mean(losses, axis=0)
        means = _running(state.losses, value)
        reading = Reading(
            cosine_of(delta, state.previous),
            state.log_rate + state.offsets,
            means,
            in_round,
            running_within(state.within, in_round),
            jnp.minimum(state.lowest, means[0]),
            num_workers,
            state.num_updates,
            num_steps,
            state.step_cosines,
            state.shares,
        )
        hidden, outputs = _apply(theta["controller"], round_features(sums, reading, floor))
        decided = _decide(outputs, rule, state, reading.cosine, tensor_cosines(sums), sums.is_vector)
        finite = jnp.isfinite(squared_norm(delta)) & jnp.all(jnp.isfinite(outputs))
        mean_squares = sums.dd / sums.size
        rows = {name: getattr(decided, name) for name in ("rate", "server", "decay", "share")}
        rows["size"] = jnp.sqrt(mean_squares)
        if hidden_size:
            rows["unit"] = jax.lax.rsqrt(jnp.maximum(mean_squares, 1e-30))
            rows["bias"] = theta["parameter"]["b0"][None] + hidden @ theta["parameter"]["w_tensor"]
        own = _of_each_tensor(rows, len(leaves), finite)
        new_momenta = [d + o["decay"] * m for o, d, m in zip(own, leaves, momenta, strict=True)]
        plain = [d + o["decay"] * m for o, d, m in zip(own, leaves, new_momenta, strict=True)]
        orthogonal = orthogonal_of_equal_norm(plain)
        step_cosines = jnp.stack([cosine_of(u, w) for u, w in zip(orthogonal, before, strict=True)])
        steps = [-o["server"] * (v + o["share"] * (u - v)) for o, v, u in zip(own, plain, orthogonal, strict=True)]
        second = state.second_moment
        if hidden_size:
            moments = treedef.flatten_up_to(state.second_moment)
            moments = [
                v + (1 - SECOND_MOMENT_DECAY) * (jnp.square(d) - v) for d, v in zip(leaves, moments, strict=True)
            ]
            second = treedef.unflatten(moments)
            statistics = worker_statistics(leaves, treedef, worker_mean)
            tensors = list(zip(own, leaves, new_momenta, moments, xs, statistics, strict=True))
            learned = _corrections(theta["parameter"], finite, tensors)
            steps = [s - o["server"] * o["size"] * e for o, s, e in zip(own, steps, learned, strict=True)]
        step = treedef.unflatten(steps)
        new = LaggSetState(
            num_updates=state.num_updates + 1,
            momentum=treedef.unflatten(new_momenta),
            previous=delta,
            second_moment=second,
            log_rate=decided.log_rate,
            offsets=decided.offsets,
            withdrawals=decided.withdrawals,
            shares=decided.share,
            orthogonal=treedef.unflatten(orthogonal),
            step_cosines=step_cosines,
            losses=reading.losses,
            within=reading.within,
            lowest=reading.lowest,
            local_rates=treedef.unflatten([o["rate"] for o in own]),
            averaged_params=averaged_with(state.averaged_params, params, step, decided.average, state.num_updates),
        )
        new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
        return jax.tree.map(lambda s, u: jnp.where(finite, s, 0).astype(u.dtype), step, updates), new

    return optax.GradientTransformationExtraArgs(lambda params: _init_state(params, hidden_size), update)


def _init_state(params, hidden_size):
    """Before the first round."""
    tensors = len(jax.tree.leaves(params))
    return LaggSetState(
        num_updates=jnp.int32(0),
        momentum=optax.tree.zeros_like(params, dtype=jnp.float32),
        previous=optax.tree.zeros_like(params, dtype=jnp.float32),
        second_moment=optax.tree.zeros_like(params, dtype=jnp.float32) if hidden_size else (),
        log_rate=jnp.float32(0),
        offsets=jnp.zeros(tensors),
        withdrawals=jnp.zeros(tensors),
        shares=jnp.zeros(tensors),
        orthogonal=optax.tree.zeros_like(params, dtype=jnp.float32),
        step_cosines=jnp.full(tensors, NO_COSINE, jnp.float32),
        losses=jnp.full(len(LOSS_DECAYS), jnp.inf, jnp.float32),
        within=jnp.float32(0),
        lowest=jnp.float32(jnp.inf),
        local_rates=jax.tree.map(lambda p: jnp.float32(1), params),
        averaged_params=copied(params),
    )


def _decide(outputs, rule, state, cosine, own_cosines, is_vector) -> _Decided:
    """The equations at the top of this file for the controller's outputs, [tensors, 10]."""
    z = jnp.asarray(BOUNDS)[None] * jnp.tanh(outputs)
    pace, threshold = rule.kappa * jnp.exp(jnp.mean(z[:, 7])), rule.tau + jnp.mean(z[:, 8])
    log_rate = next_log_rate(state.log_rate, cosine, pace, threshold)
    slowed = z[:, 0] / (1 + state.num_updates / OFFSET_ROUNDS)
    apart = jnp.where(is_cosine(cosine), own_cosines - cosine, 0)
    offsets = jnp.clip(state.offsets + slowed + z[:, 9] * apart, -LARGEST_OFFSET, LARGEST_OFFSET)
    evidence = jnp.where(is_cosine(state.step_cosines), z[:, 6], 0)
    withdrawals = jnp.clip(state.withdrawals + evidence, -1, 0)
    return _Decided(
        log_rate=log_rate,
        offsets=offsets,
        withdrawals=withdrawals,
        rate=jnp.exp(log_rate) * jnp.exp(offsets + z[:, 1]),
        server=rule.learning_rate * jnp.exp(z[:, 2]),
        decay=rule.momentum + (1 - rule.momentum) * (1 - jnp.exp(z[:, 3])),
        share=jnp.where(is_vector > 0, 0, jnp.clip(z[:, 5] + withdrawals, 0, 1)),
        average=rule.average + (1 - rule.average) * (1 - jnp.exp(jnp.mean(z[:, 4]))),
    )


def _of_each_tensor(rows, tensors, is_finite):
    """Row i of every array for tensor i; zeros where the round is not finite and nothing of it is used.

    The conditional keeps XLA from writing the place of a row into the loop over its tensor: tensors of one shape then
    have equal loops, which are compiled once.
    """

    def taken(rows):
        return [{name: row[i] for name, row in rows.items()} for i in range(tensors)]

    return jax.lax.cond(is_finite, taken, lambda rows: jax.tree.map(jnp.zeros_like, taken(rows)), rows)


def _corrections(network, is_finite, tensors):
    """The per-parameter MLP's output for each tensor; zeros where the round is not finite.

    By a conditional, whose results XLA stores: it would work them out again in every loop that reads them.
    """

    def evaluated(tensors):
        return [
            correction(network, channels(d, m, v, x, spread, sign, own["unit"]), own["bias"])
            for own, d, m, v, x, (spread, sign) in tensors
        ]

    return jax.lax.cond(is_finite, evaluated, lambda tensors: [jnp.zeros_like(t[1]) for t in tensors], tensors)


def _scaled(key, inputs, outputs):
    return inputs**-0.5 * jax.random.truncated_normal(key, -2, 2, (inputs, outputs), jnp.float32)


def _network(key, inputs, hidden, outputs):
    """One hidden layer, or none, and outputs that are zero at first."""
    if not hidden:
        return {"w1": jnp.zeros((inputs, outputs)), "b1": jnp.zeros(outputs)}
    return {
        "w0": _scaled(key, inputs, hidden),
        "b0": jnp.zeros(hidden),
        "w1": jnp.zeros((hidden, outputs)),
        "b1": jnp.zeros(outputs),
    }


def _apply(network, inputs):
    hidden = jnp.tanh(inputs @ network["w0"] + network["b0"][None]) if "w0" in network else inputs
    return hidden, hidden @ network["w1"] + network["b1"][None]


def _running(means, value):
    if value is None:
        return means
    decays = jnp.asarray(LOSS_DECAYS)
    value = value.astype(jnp.float32)
    moved = jnp.where(jnp.isfinite(means), decays * means + (1 - decays) * value, value)
    return jnp.where(jnp.isfinite(value), moved, means)
