"""Validation: losses solved by hand, the same tasks every time, and the best optimizer kept across restarts."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import meta_train.runs.run
import meta_train.validation
from learned_opt.base import LearnedOptimizer
from learned_opt.checkpoint import load_checkpoint
from meta_train.component import Component
from meta_train.config import MetaTrainConfig
from meta_train.config_checks import validate
from meta_train.runs.run import resume, run
from meta_train.validation import build_validation, validation_runs
from tests.meta_train.toy_families import constant_target_family, regression_family
from tests.meta_train.toy_trainer import result_of, toy_config, toy_trainer

CONFIG = MetaTrainConfig(
    optimizer="lopt_a",
    num_workers=2,
    num_local_steps=1,
    batch_size=3,
    local_optimizer="sgd,learning_rate=0.125",
    num_tasks=4,
    truncation_length=2,
    min_unroll_length=2,
    max_unroll_length=4,
    validate_every=5,
    validation=(Component("mine", name="from_half"), Component("other", max_unroll_length=6)),
)
LOPT = LearnedOptimizer(
    lambda key: {"rate": jnp.ones(1)},
    lambda theta, num_steps=None: optax.with_extra_args_support(optax.sgd(theta["rate"][0])),
    {"architecture": "rate"},
)


def built(families, config=CONFIG):
    """Rate -> losses, with families that are found by their names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meta_train.validation, "find_family", lambda task, given: families[task])
        measure = build_validation(config, LOPT)
    return lambda rate: measure(np.asarray([rate], np.float32))


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_losses_against_closed_form(rate):
    """A local step multiplies w - 1 by 3/4; held out, the target is 0."""
    families = {"mine": constant_target_family(0.5), "other": constant_target_family(-1.0, uninformed_loss=8.0)}
    found = built(families)(rate)

    def expected(start, rounds, uninformed_loss):
        factor = 1 + rate * (0.75 - 1)
        after = 1 + (start - 1) * factor ** np.arange(1, rounds + 1)
        return np.mean(np.minimum(after**2 / uninformed_loss, 1.5))

    np.testing.assert_allclose(found["valid_loss/from_half"], expected(0.5, 4, 4.0), rtol=1e-5)
    np.testing.assert_allclose(found["valid_loss/other"], expected(-1.0, 6, 8.0), rtol=1e-5)
    np.testing.assert_allclose(found["valid_loss"], np.mean([expected(0.5, 4, 4.0), expected(-1.0, 6, 8.0)]), rtol=1e-5)


def test_tasks_are_the_same_every_time_and_other_with_another_seed():
    families = {"mine": regression_family(), "other": regression_family()}
    config = dataclasses.replace(CONFIG, validation=(Component("mine"), Component("other")))
    measure = built(families, config)
    first = measure(1.0)
    assert measure(0.9) != first and measure(1.0) == first and built(families, config)(1.0) == first
    mine, other = (first[f"valid_loss/{name}"] for name in ("mine", "other"))
    assert mine != other

    def changed(**change):
        alone = dataclasses.replace(config, validation=config.validation[:1], **change)
        return built(families, alone)(1.0)["valid_loss"]

    assert changed(seed=1) != mine
    # Several tasks are not one task several times.
    assert abs(changed(num_tasks=1) - mine) > 1e-3


def test_what_is_validated_on():
    assert validation_runs(dataclasses.replace(CONFIG, validate_every=0)) == {}
    cheap = dataclasses.replace(CONFIG, validation=())
    assert list(validation_runs(cheap)) == ["fmnist8_mlp128", "fmnist8_autoencoder"]
    validate(cheap)


@pytest.fixture
def scripted(monkeypatch):
    """A validation whose losses are given by the meta-step, and the theta it was given."""
    losses = {4: 0.9, 8: 0.5, 12: 0.7, 16: math.nan, 20: 0.6, 24: 0.45, 28: 0.8}
    left = list(losses.values())
    seen = []

    def build(config, lopt, given):
        def measure(theta):
            seen.append(theta)
            loss = left[len(seen) - 1]
            return {"valid_loss": loss, "valid_loss/a": loss}

        return measure

    monkeypatch.setattr(meta_train.runs.run, "build_validation", build)
    return losses, seen


class _Killed(Exception):
    pass


def test_the_best_is_kept_across_a_restart(tmp_path, scripted):
    losses, seen = scripted
    config = toy_config(tmp_path / "run", validate_every=4)
    trainer, left = toy_trainer(), iter(range(18))

    def step(state):
        if next(left, None) is None:
            raise _Killed
        return trainer.step(state)

    with pytest.raises(_Killed):
        run(config, trainer._replace(step=step))
    best = tmp_path / "run" / "best.safetensors"
    assert load_checkpoint(best).card["meta_steps"] == 8
    # The checkpoint is of meta-step 14, so that the validation of 16 is taken again.
    del seen[3:]
    assert resume(config.run_dir, trainer).status == "finished"
    assert load_checkpoint(best).card["meta_steps"] == 24
    rows = result_of(tmp_path / "run")[2]
    expected = {step: None if math.isnan(loss) else loss for step, loss in losses.items()}
    assert {row["step"]: row["valid_loss"] for row in rows if "valid_loss" in row} == expected
    theta = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(load_checkpoint(best).theta)])
    np.testing.assert_array_equal(theta, seen[5])


def test_a_restart_does_not_forget_the_best(tmp_path, scripted):
    losses, seen = scripted
    run(toy_config(tmp_path / "run", validate_every=4, meta_steps=10), toy_trainer())
    assert resume(tmp_path / "run", toy_trainer(), meta_steps=22).step == 22
    # 0.7 and 0.6 of later meta-steps are no better than 0.5.
    assert load_checkpoint(tmp_path / "run" / "best.safetensors").card["meta_steps"] == 8
