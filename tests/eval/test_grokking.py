"""Published behaviour of perpGrad (Prieto et al. 2025, arXiv 2501.04697) on modular addition, without weight decay."""

import jax
import optax
import pytest

from learned_opt.optimizers import make_local_optimizer
from tasks.families.sequences.modular_arithmetic import modular_arithmetic


def trained(optimizer, num_steps, modulus, width):
    """Metrics on the training and on the test pairs after full-batch training."""
    family = modular_arithmetic(modulus, (width, width))
    task = family.task({}, family.data)
    train, test = (family.eval_batch(family.data, split) for split in ("train", "test"))
    key = jax.random.key(0)

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(task.loss)(params, key, train), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=num_steps)
        return task.metrics(params, train), task.metrics(params, test)

    with jax.numpy_dtype_promotion("standard"):
        return jax.device_get(run(task.init(key)))


@pytest.mark.slow
@pytest.mark.optimized
def test_perp_grad_groks_where_adam_only_memorizes():
    reference = "learning_rate=0.003,b2=0.99"
    on_train, on_test = trained(make_local_optimizer(f"adam,{reference}"), 400, 59, 128)
    assert on_train["accuracy"] == 1 and on_test["accuracy"] < 0.05
    on_train, on_test = trained(make_local_optimizer(f"perp_adam,{reference}"), 400, 59, 128)
    assert on_test["accuracy"] > 0.75
    assert on_train["loss"] > 0.1


@pytest.mark.slow
@pytest.mark.optimized
def test_adam_without_weight_decay_ends_in_softmax_collapse_and_perp_grad_does_not():
    """Every training loss has become exactly zero, and the network will not learn any more."""
    on_train, on_test = trained(make_local_optimizer("adam,learning_rate=0.003,b2=0.99"), 2200, 31, 64)
    assert on_train["zero_loss_fraction"] > 0.95 and on_test["accuracy"] < 0.05
    on_train, on_test = trained(make_local_optimizer("perp_adam,learning_rate=0.003,b2=0.99"), 2200, 31, 64)
    assert on_train["zero_loss_fraction"] == 0 and on_test["accuracy"] > 0.1
