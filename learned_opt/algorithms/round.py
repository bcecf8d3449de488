"""One communication round, as a single worker sees it, and what makes all workers of it.

An algorithm is written for one worker (`LocalAlgorithm`); where workers meet it uses the collectives of this file over
the named axis "workers". The same code is then driven by

    simulate    vmap: all workers on one device
    spread      shard_map of that vmap: K / devices of them on every device
    the user    any shard_map, vmap or pmap of theirs with an axis "workers"; `local_updates` inside a loop of theirs

Values are gathered before they are averaged, and averaged in worker order, so every layout adds the same numbers in the
same order.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from learned_opt.algorithms.server_fields import evaluated_params as evaluated_params
from learned_opt.algorithms.server_fields import local_rates as local_rates
from learned_opt.algorithms.server_fields import scale_by_rates as scale_by_rates
from learned_opt.argument_checks import check_algorithm, check_count, checked_loss
from learned_opt.base import LocalAlgorithm, LossFn, Params, RoundInfo, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

WORKERS = "workers"
"""Named axis whose members are the workers of a device."""
WORKER_DEVICES = "worker_devices"
"""Mesh axis over which the workers are spread; where there is none, all are on one device."""

MOST_ADDED = 64
"""Workers that are added one by one, at most: a program grows with them."""

AxisName = str | Sequence[str]


def num_worker_devices() -> int:
    """Devices that the workers are spread over."""
    try:
        return jax.lax.axis_size(WORKER_DEVICES)
    except NameError:
        return 1


def num_workers() -> int:
    """K."""
    return jax.lax.axis_size(WORKERS) * num_worker_devices()


def worker_index() -> Int[Array, ""]:
    """Number of this worker, 0 to K - 1, the same on every layout."""
    index = jax.lax.axis_index(WORKERS)
    if num_worker_devices() == 1:
        return index
    return jax.lax.axis_index(WORKER_DEVICES) * jax.lax.axis_size(WORKERS) + index


def gather(tree: Any, axis_name: AxisName = WORKERS) -> Any:
    """Every worker's values in worker order: leaves [*shape] of this worker become [K, *shape], equal on all."""
    tree = jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name), tree)
    if num_worker_devices() > 1:
        # One axis after the other: jax 0.10 takes no tuple of a vmapped and a mesh axis.
        tree = jax.tree.map(lambda x: jax.lax.all_gather(x, WORKER_DEVICES, tiled=True), tree)
    return tree


def mean_of_workers(gathered: Any) -> Any:
    """Mean over the leading [K] axis, in worker order; of half-precision numbers in float32.

    Up to MOST_ADDED workers are added one by one: XLA's CPU backend takes a hundred times as long to reduce a leading
    axis, half of a round's time for a small MLP.
    """

    def mean(x):
        if x.shape[0] > MOST_ADDED or not jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.mean(x, axis=0)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return (functools.reduce(jnp.add, list(wide)) / x.shape[0]).astype(x.dtype)

    return jax.tree.map(mean, gathered)


def all_losses(losses: Float[Array, "on_device steps"]) -> Float[Array, "workers steps"]:
    """The losses of all workers, given those of this device, outside the named axis of its workers."""
    return losses if num_worker_devices() == 1 else jax.lax.all_gather(losses, WORKER_DEVICES, tiled=True)


def own_part(tree: Any) -> Any:
    """The workers of this device, of leaves [K, ...] that hold all of them."""
    devices = num_worker_devices()
    if devices == 1:
        return tree
    device = jax.lax.axis_index(WORKER_DEVICES)

    def part(x):
        share = x.shape[0] // devices
        return jax.lax.dynamic_slice_in_dim(x, device * share, share)

    return jax.tree.map(part, tree)


class LocalSteps(NamedTuple):
    """What a worker did between two communications.

    Attributes:
      params: where it ended.
      opt_state: of its local optimizer.
      losses: [H], each before its step.
      pseudo_gradient: parameters before minus after.
    """

    params: Params
    opt_state: Any
    losses: Float[Array, "steps"]
    pseudo_gradient: Any


def local_steps(
    loss_fn: LossFn,
    local_opt: optax.GradientTransformation,
    params: Params,
    opt_state: Any,
    key: jax.Array,
    batches: Any,
    *,
    anchor: Params = None,
    rates: Any = None,
) -> LocalSteps:
    """H steps of one worker between two communications: y <- y + rate * local_opt(grad loss(y; batch_h)).

    Args:
      loss_fn: (params, key, batch) -> scalar.
      local_opt: receives, if it takes extra arguments, `value` (the loss), `anchor`, `key` (one of its own a step) and
        `grad_fn` (params -> gradient on the same batch with the same loss key).
      params: y, where the worker begins.
      opt_state: of `local_opt`.
      key: this worker's, of this round.
      batches: leaves [H, batch, ...].
      anchor: parameters that `local_opt` may look back to, usually the global ones; None: `params`.
      rates: factors on the updates, one for each tensor of `params`; None: 1.
    """
    local = optax.with_extra_args_support(local_opt)
    loss_fn = checked_loss(loss_fn)
    anchor = params if anchor is None else anchor
    num_steps = jax.tree.leaves(batches)[0].shape[0]

    def step(params, opt_state, index, batch):
        loss_key, opt_key = (jax.random.fold_in(key, i) for i in (index, num_steps + index))
        loss, gradient = jax.value_and_grad(loss_fn)(params, loss_key, batch)

        # optax.contrib.sam hands it a second argument, the number of its inner step.
        def grad_fn(params, _=None):
            return jax.grad(loss_fn)(params, loss_key, batch)

        updates, opt_state = local.update(
            gradient, opt_state, params, value=loss, anchor=anchor, key=opt_key, grad_fn=grad_fn
        )
        return updates if rates is None else scale_by_rates(updates, rates), opt_state, loss

    if num_steps == 1:
        updates, opt_state, loss = step(params, opt_state, 0, jax.tree.map(lambda x: x[0], batches))
        # No bits are lost to a subtraction.
        pseudo_gradient = jax.tree.map(jnp.negative, updates)
        return LocalSteps(optax.apply_updates(params, updates), opt_state, loss[None], pseudo_gradient)

    def scanned(carry, step_inputs):
        updates, opt_state, loss = step(*carry, *step_inputs)
        return (optax.apply_updates(carry[0], updates), opt_state), loss

    start = params
    (params, opt_state), losses = jax.lax.scan(scanned, (start, opt_state), (jnp.arange(num_steps), batches))
    return LocalSteps(params, opt_state, losses, jax.tree.map(jnp.subtract, start, params))


def server_step(
    server_opt: optax.GradientTransformationExtraArgs,
    server_state: Any,
    params: Params,
    sent: Any,
    losses: Float[Array, "steps"] | None,
    *,
    axis_name: AxisName | None = WORKERS,
    collect: bool = True,
) -> tuple[Any, Any, Any]:
    """The end of a round: workers' pseudo-gradients meet, and the server takes its step.

    Args:
      server_opt: receives the mean, and as extra arguments `worker_updates` [K, *shape]; `worker_mean`, which takes a
        function of a worker's own pseudo-gradient to the mean of its results over the workers (one all-reduce where
        nothing is gathered); `num_workers`; where there are losses, `value` (their mean) and `losses` [K, H]; and
        `pseudo_gradient=True`, by which a learned server optimizer knows that it is not fed gradients.
      server_state: its state.
      params: global parameters that the round began with.
      sent: this worker's pseudo-gradient as it is sent.
      losses: this worker's minibatch losses of the round; None: the server gets no `value`.
      axis_name: whose members are the workers; None: there is a single one.
      collect: gather all of them and average in worker order; False: average by a collective mean, which needs 1/K of
        the memory, passes no `worker_updates` (and as `losses` their mean over workers, [1, H]), and adds in an order
        of the backend's choice.

    Returns:
      (updates of the global parameters, server state, worker_updates or None).
    """
    if axis_name is not None and not collect:
        extra = {} if losses is None else {"value": jnp.mean(losses), "losses": losses[None]}
        extra, mean = jax.lax.pmean((extra, sent), axis_name)
        updates, server_state = server_opt.update(
            mean,
            server_state,
            params,
            pseudo_gradient=True,
            worker_mean=lambda fn: jax.lax.pmean(fn(sent), axis_name),
            num_workers=jax.lax.axis_size(axis_name),
            **extra,
        )
        return updates, server_state, None
    everyone = (sent,) if losses is None else (sent, losses)
    if axis_name is None:
        worker_updates, *gathered = jax.tree.map(lambda x: x[None], everyone)
        mean = sent
    else:
        worker_updates, *gathered = gather(everyone, axis_name)
        mean = mean_of_workers(worker_updates)
    extra = {"value": jnp.mean(gathered[0]), "losses": gathered[0]} if gathered else {}
    updates, server_state = server_opt.update(
        mean,
        server_state,
        params,
        pseudo_gradient=True,
        worker_updates=worker_updates,
        worker_mean=lambda fn: mean_of_workers(jax.vmap(fn)(worker_updates)),
        num_workers=jax.tree.leaves(worker_updates)[0].shape[0],
        **extra,
    )
    return updates, server_state, worker_updates


def dense_bytes(params: Params) -> int:
    """Bytes of one float32 per parameter: what a worker sends uncompressed."""
    return 4 * sum(int(jnp.size(leaf)) for leaf in jax.tree.leaves(params))


def simulate(algorithm: LocalAlgorithm, num_workers: int) -> LocalAlgorithm:
    """All workers of an algorithm at once, vmapped.

    Args:
      algorithm: of one worker.
      num_workers: K, on this device.

    Returns:
      the algorithm whose state has a leading [K] axis in `worker` and whose batches are [K, H, batch, ...].

    Raises:
      ValueError: no algorithm, or K below 1; by `round`, batches of another leading axis, a state of another algorithm
        or K, or an algorithm that is simulated within another one.
    """
    check_algorithm(algorithm, "algorithm")
    num_workers = check_count(num_workers, "num_workers")

    def round_fn(loss_fn, state, key, batches):
        _check_not_within_workers()
        _check_workers(batches, num_workers)
        _check_state(state, num_workers)
        per_worker: Any = RoundState(shared=None, worker=0)
        over_workers: Any = 0
        no_axis: Any = None
        info = RoundInfo(losses=over_workers, diagnostics=no_axis)
        # JAX refuses what should be shared and differs between workers: it has no axis to take it from.
        return jax.vmap(
            lambda state, key, batches: algorithm.round(loss_fn, state, key, batches),
            in_axes=(per_worker, None, 0),
            out_axes=(per_worker, info),
            axis_name=WORKERS,
            axis_size=num_workers,
        )(state, key, batches)

    return algorithm._replace(init=_init_all(algorithm, num_workers), round=round_fn, measured=None)


def spread(algorithm: LocalAlgorithm, num_workers: int, mesh: jax.sharding.Mesh) -> LocalAlgorithm:
    """All workers of an algorithm at once, spread over the devices of a mesh, K / devices on each.

    Every device takes the same server step; `shared` is replicated, `worker` and the batches are split by their first
    axis. The arrays of state and batches are global ones.

    Args:
      algorithm: of one worker.
      num_workers: K, a multiple of the number of devices.
      mesh: its devices, in their order; from `make_worker_mesh` or any other.

    Raises:
      ValueError: no algorithm, or K below 1 or not divisible by the devices; by `round`, batches of another leading
        axis, or a state of another algorithm or K.
    """
    check_algorithm(algorithm, "algorithm")
    devices, num_workers = mesh.size, check_count(num_workers, "num_workers")
    if num_workers % devices:
        raise ValueError(f"num_workers={num_workers}: use a positive multiple of the mesh's {devices} devices")
    over_devices = jax.sharding.Mesh(
        mesh.devices.reshape(-1), (WORKER_DEVICES,), axis_types=(jax.sharding.AxisType.Auto,)
    )
    on_device = simulate(algorithm, num_workers // devices)
    replicated: Any = PartitionSpec()
    split: Any = PartitionSpec(WORKER_DEVICES)
    state_spec = RoundState(shared=replicated, worker=split)

    def round_fn(loss_fn, state, key, batches):
        _check_workers(batches, num_workers)
        _check_state(state, num_workers)
        # Gathered values are equal on every device, which shard_map's replication check cannot see.
        return jax.shard_map(
            lambda state, key, batches: on_device.round(loss_fn, state, key, batches),
            mesh=over_devices,
            in_specs=(state_spec, replicated, split),
            out_specs=(state_spec, RoundInfo(losses=split, diagnostics=replicated)),
            check_vma=False,
        )(state, key, batches)

    return algorithm._replace(init=_init_all(algorithm, num_workers), round=round_fn, measured=None)


def _init_all(algorithm, num_workers):
    """All workers begin alike."""

    def init(params):
        shared, worker = algorithm.init(params)
        return RoundState(shared, jax.tree.map(lambda x: jnp.broadcast_to(x, (num_workers, *jnp.shape(x))), worker))

    return init


def _check_not_within_workers():
    try:
        jax.lax.axis_size(WORKERS)
    except NameError:
        return
    raise ValueError("this algorithm has all its workers already (simulate, load_algorithm): use that of one worker")


def _check_workers(batches, num_workers):
    leaves = jax.tree.leaves(batches)
    if not leaves:
        raise ValueError(f"batches={batches}: give arrays [workers, local steps, batch, ...]")
    for leaf in leaves:
        if leaf.ndim < 2 or leaf.shape[0] != num_workers:
            raise ValueError(
                f"batches has a leaf of shape {leaf.shape}, expected [workers, local steps, batch, ...] with "
                f"{num_workers} workers"
            )


def _check_state(state, num_workers):
    if not isinstance(state, RoundState):
        raise ValueError(f"state is a {type(state).__name__}: use what the algorithm's own init and round return")
    for leaf in jax.tree.leaves(state.worker):
        if jnp.shape(leaf)[:1] != (num_workers,):
            raise ValueError(
                f"state.worker has a leaf of shape {jnp.shape(leaf)}, expected {num_workers} workers first: use the "
                "state of this algorithm's own init"
            )
