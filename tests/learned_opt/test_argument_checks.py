"""A user's mistakes with algorithms: one line that names the value and the way out."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.local_updates import local_updates
from learned_opt.algorithms.round import simulate, spread
from learned_opt.algorithms.worker_mesh import make_worker_mesh
from learned_opt.argument_checks import check_callback, check_learned_optimizer

K, H = 2, 3
NO_AXIS: Any = 3
EIGHT_BYTES: Any = np.int64(K)
PARAMS = {"w": np.ones(3, np.float32)}
BATCHES = np.ones((K, H, 4, 3), np.float32)
KEY = jax.random.key(0)
SGD = optax.sgd(0.1)


def loss_fn(params, key, batch):
    del key
    return jnp.mean(jnp.square(batch @ params["w"]))


def refused(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


NO_TRANSFORMS = [
    (0.5, r"=0.5: use an optax transform, e.g. optax.sgd\(0.5\)"),
    ("lopt_generalist", r"=lopt_generalist: load it: learned_opt.load\('lopt_generalist'\)"),
    (learned_opt.lopt_a(hidden_size=2), "=LearnedOptimizer: use the transform that its method transform returns"),
    (optax.adam, "=adam: call it first"),
    (None, "=None: use an optax transform"),
]


@pytest.mark.parametrize(("value", "message"), NO_TRANSFORMS)
@pytest.mark.usefixtures("unchecked_annotations")
def test_what_is_no_transform_is_named(value, message):
    refused(lambda: local_sgd(value, SGD), f"local_opt{message}")
    refused(lambda: local_sgd(SGD, value), f"server_opt{message}")
    refused(lambda: local_updates(value, SGD, 2), f"local_opt{message}")
    refused(lambda: local_updates(SGD, value, 2), f"server_opt{message}")
    refused(lambda: data_parallel(value), f"opt{message}")
    if value is not None:
        refused(lambda: local_sgd(SGD, SGD, value), f"upload{message}")
        refused(lambda: local_updates(SGD, SGD, 2, upload=value), f"upload{message}")


@pytest.mark.parametrize(
    ("count", "message"), [(2.5, "=2.5: use a whole number"), ("3", "='3': use a"), (0, "=0: use")]
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_counts_are_whole_and_positive(count, message):
    refused(lambda: local_updates(SGD, SGD, count), f"num_local_steps{message}")
    refused(lambda: simulate(local_sgd(SGD, SGD), count), f"num_workers{message}")
    refused(lambda: spread(local_sgd(SGD, SGD), count, make_worker_mesh(1)), f"num_workers{message}")


@pytest.mark.usefixtures("unchecked_annotations")
def test_counts_may_be_numpys():
    assert simulate(local_sgd(SGD, SGD), EIGHT_BYTES).init(PARAMS).shared.params is PARAMS


LOSSES = [
    (lambda params, batch: 0.0, r"loss_fn is called with \(params, key, batch\), which <lambda> does not take"),
    (lambda params, key, batch: (loss_fn(params, key, batch), {}), "loss_fn returns a tuple, not a scalar"),
    (lambda params, key, batch: {"loss": loss_fn(params, key, batch)}, "loss_fn returns a dict"),
    (lambda params, key, batch: 3, "loss_fn returns int32: return a floating-point number"),
    (lambda params, key, batch: batch @ params["w"], r"loss_fn returns shape \(\d+,\), not a scalar: .* mean"),
]


@pytest.mark.parametrize(("loss", "message"), LOSSES)
@pytest.mark.parametrize("algorithm", [local_sgd(SGD, SGD), data_parallel(SGD)], ids=["local_sgd", "data_parallel"])
def test_losses_of_another_kind_are_named(algorithm, loss, message):
    driven = simulate(algorithm, K)
    refused(lambda: jax.jit(functools.partial(driven.round, loss))(driven.init(PARAMS), KEY, BATCHES), message)


def test_a_type_error_inside_a_loss_is_its_own():
    def broken(params, key, batch):
        return params["w"] @ None

    driven = simulate(local_sgd(SGD, SGD), K)
    with pytest.raises(TypeError, match="unsupported operand"):
        driven.round(broken, driven.init(PARAMS), KEY, BATCHES)


MOMENTUM = optax.sgd(0.1, 0.9)
OTHER_STATES = [
    (local_sgd(SGD, MOMENTUM), local_sgd(SGD, SGD), "given to local_sgd was made by another optimizer"),
    (local_sgd(MOMENTUM, SGD), local_sgd(SGD, SGD), "given to local_sgd was made by another optimizer"),
    (local_sgd(SGD, SGD), data_parallel(SGD), "is not one of local_sgd"),
    (data_parallel(SGD), local_sgd(SGD, SGD), "is not one of data_parallel"),
    (data_parallel(MOMENTUM), data_parallel(SGD), "given to data_parallel was made by another optimizer"),
]


@pytest.mark.parametrize(("algorithm", "other", "message"), OTHER_STATES)
def test_states_of_another_optimizer_are_named(algorithm, other, message):
    state = simulate(other, K).init(PARAMS)
    refused(lambda: simulate(algorithm, K).round(loss_fn, state, KEY, BATCHES), f"state.* {message}")


@pytest.mark.parametrize("drive", [simulate, functools.partial(spread, mesh=make_worker_mesh(1))])
def test_states_of_another_kind_or_number_of_workers_are_named(drive):
    algorithm = drive(local_sgd(SGD, MOMENTUM), K)
    refused(
        lambda: algorithm.round(loss_fn, PARAMS, KEY, BATCHES), "state is a dict: use what the algorithm's own init"
    )
    three = simulate(local_sgd(MOMENTUM, SGD), 3).init(PARAMS)
    refused(lambda: algorithm.round(loss_fn, three, KEY, BATCHES), r"leaf of shape \(3, 3\), expected 2 workers first")


def test_local_updates_name_wrong_states_and_gradients():
    tx = local_updates(MOMENTUM, SGD, 2)
    state = tx.init(PARAMS)
    refused(lambda: tx.update(PARAMS, MOMENTUM.init(PARAMS), PARAMS), "state is a tuple, not one of local_updates")
    other = local_updates(SGD, SGD, 2).init(PARAMS)
    refused(lambda: tx.update(PARAMS, other, PARAMS), "state given to local_updates was made by another optimizer")
    refused(lambda: tx.update({"w": np.ones(2)}, state, PARAMS), r"the gradient has shape \(2,\) at w, params \(3,\)")
    refused(lambda: tx.update({"v": np.ones(3)}, state, PARAMS), "the gradient and params are trees of other structure")
    refused(lambda: tx.update(np.ones(3), state, np.ones(2)), r"shape \(3,\) at the only tensor, params \(2,\)")
    refused(lambda: tx.update(PARAMS, state, PARAMS, value=np.ones(3)), r"value has shape \(3,\): pass the loss")


@pytest.mark.usefixtures("unchecked_annotations")
def test_local_updates_name_an_axis_that_is_not_there():
    here = local_updates(SGD, SGD, 2, "workers")
    refused(lambda: here.update(PARAMS, here.init(PARAMS), PARAMS), "axis_name='workers': there is no such axis where")
    refused(lambda: local_updates(SGD, SGD, 2, NO_AXIS), "axis_name=3: use the name of the axis")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (SGD, "algorithm is an optax transform: put it behind its workers"),
        (learned_opt.auto_diloco, "algorithm is a function: call it first"),
        (3, "algorithm is a int: use a learned_opt.LocalAlgorithm"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_what_is_no_algorithm_is_named(value, message):
    refused(lambda: simulate(value, K), message)
    refused(lambda: spread(value, K, make_worker_mesh(1)), message)


def test_batches_without_arrays_and_workers_within_workers():
    algorithm = simulate(local_sgd(SGD, SGD), K)
    refused(lambda: algorithm.round(loss_fn, algorithm.init(PARAMS), KEY, None), "batches=None: give arrays")
    nested = simulate(algorithm, K)
    batches = np.ones((K, K, H, 4, 3), np.float32)
    refused(lambda: nested.round(loss_fn, nested.init(PARAMS), KEY, batches), "has all its workers already")


RATE = learned_opt.LearnedOptimizer(
    lambda key: {"rate": jnp.ones(1)}, lambda theta, num_steps=None: SGD, {"architecture": "rate"}
)
ODD: Any = RATE._replace


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda: RATE, "lopt=.*: call it first; use a learned_opt.LearnedOptimizer"),
        (SGD, "lopt=.*: use a learned_opt.LearnedOptimizer"),
        (ODD(config={"size": 3}), "its config is {'size': 3}: give it 'architecture'"),
        (ODD(config={"architecture": "rate", "size": np.float32(3)}), "use numbers, text and lists"),
        (ODD(reads="means"), "reads='means': use one of gradient, mean, workers, statistics"),
        (ODD(init=lambda: {}), r"define it as init\(key\)"),
        (ODD(transform=lambda theta: SGD), r"define it as transform\(theta, num_steps=None\)"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_what_is_no_learned_optimizer_is_named(value, message):
    check_learned_optimizer(RATE, "lopt")
    refused(lambda: check_learned_optimizer(value, "lopt"), message)


@pytest.mark.parametrize("callback", [3, lambda row: None])
def test_a_callback_is_told_how_it_is_called(callback):
    check_callback(lambda step, row: None, "callback", "step, row")
    refused(lambda: check_callback(callback, "callback", "step, row"), r"callback=.*: use a function of \(step, row\)")
