"""What a server says to the workers and the evaluation, by fields of its state that are found wherever it is nested.

    local_rates      one number per tensor: the factor on the workers' local updates in the next round
    averaged_params  what is to be evaluated in place of the global parameters

Where several servers share the tensors of a model (`optax.partition`, `optax.masked`), each speaks for its own.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import optax

from learned_opt.base import Params


def scale_by_rates(updates: Any, rates: Any) -> Any:
    """Every tensor of the updates times its rate, in float32; one that is masked out of the rates stays as it is."""
    return jax.tree.map(lambda u, rate: u if _is_masked(rate) else (u * rate).astype(u.dtype), updates, rates)


def local_rates(server_state: Any) -> Any:
    """The workers' rates that a server has set for the next round: the field `local_rates` of its state (one number
    per tensor of the parameters), wherever it is nested; of several servers, each of tensors of its own, all of theirs;
    None where it sets none."""
    return _of_all_servers(server_state, "local_rates")


def evaluated_params(params: Params, server_state: Any) -> Params:
    """What is to be evaluated, in the dtypes of `params`: the field `averaged_params` of the server's state, wherever
    it is nested, or the x of an `optax.contrib.schedule_free`; the parameters themselves where it averages none, and
    the tensors that it leaves to another optimizer."""
    averaged = _of_all_servers(server_state, "averaged_params")
    if averaged is None:
        found = jax.tree.leaves(server_state, is_leaf=_is_schedule_free)
        schedule_free = [leaf for leaf in found if _is_schedule_free(leaf)]
        if not schedule_free:
            return params
        averaged = optax.contrib.schedule_free_eval_params(schedule_free[0], params)
    return jax.tree.map(lambda x, z: x if _is_masked(z) else z.astype(x.dtype), params, averaged)


def _of_all_servers(server_state, field):
    """The values of a field of the state, put together where several optimizers share the tensors; None: there is none,
    or it is empty."""
    found = [value for _, value in optax.tree.get_all_with_path(server_state, field)]
    found = [value for value in found if not (isinstance(value, tuple) and not value)]

    def either(a, b):
        if not _is_masked(a) and not _is_masked(b):
            raise ValueError(f"two server optimizers have {field} of one tensor: give each tensors of its own")
        return b if _is_masked(a) else a

    return functools.reduce(lambda a, b: jax.tree.map(either, a, b, is_leaf=_is_masked), found) if found else None


def _is_masked(node):
    return isinstance(node, optax.MaskedNode)


def _is_schedule_free(node):
    return isinstance(node, optax.contrib.ScheduleFreeState)
