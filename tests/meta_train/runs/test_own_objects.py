"""The Python interface: an own LearnedOptimizer on an own TaskFamily, watched, extended, with a true card."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import LearnedOptimizer
from learned_opt.checkpoint import load_checkpoint
from meta_train.component import Component
from meta_train.config import MetaTrainConfig
from meta_train.references import Given
from meta_train.runs.run import resume, run
from meta_train.runs.run_store import read_rows
from meta_train.trainer import build_trainer, warmup_cosine
from tests.meta_train.toy_families import regression_family
from tests.meta_train.toy_trainer import result_of

CONFIG = MetaTrainConfig(
    task="mine",
    num_workers=2,
    num_local_steps=1,
    batch_size=4,
    local_optimizer="adam,learning_rate=0.05,b1=0.8",
    num_tasks=2,
    truncation_length=2,
    min_unroll_length=2,
    max_unroll_length=6,
    meta_steps=4,
    warmup_steps=1,
    checkpoint_every=2,
)


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's AdamW raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


def my_optimizer(momentum=0.5):
    return LearnedOptimizer(
        init=lambda key: {"rate": jnp.ones(1), "momentum": jnp.full(1, momentum)},
        transform=lambda theta, num_steps=None: optax.with_extra_args_support(
            optax.sgd(theta["rate"][0], theta["momentum"][0])
        ),
        config={"architecture": "mine", "momentum": momentum},
    )


def own(run_dir, **changes):
    """Settings, and what they name."""
    config = dataclasses.replace(CONFIG, run_dir=str(run_dir), **changes)
    return config, {"lopt": my_optimizer(), "families": {"mine": regression_family("mine")}}


def test_watched_saved_and_extended(tmp_path):
    config, mine = own(tmp_path / "run")
    seen = []
    outcome = run(config, **mine, callback=lambda step, info: seen.append((step, info["meta_loss"])))
    assert outcome.status == "finished"
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert seen == [(row["step"], row["meta_loss"]) for row in rows] and len(rows) == 4
    assert outcome.config.optimizer == "mine,momentum=0.5"
    checkpoint = load_checkpoint(outcome.optimizer_path, {"mine": my_optimizer})
    assert checkpoint.local_opt == {"name": "adam", "learning_rate": 0.05, "b1": 0.8}
    settings = checkpoint.card["meta_train_config"]
    assert (checkpoint.card["task"], settings["task"], settings["optimizer"]) == ("mine", "mine", "mine,momentum=0.5")

    with pytest.raises(ValueError, match="'mine' is unknown"):
        resume(tmp_path / "run")
    with pytest.raises(ValueError, match="meta_steps=3: use at least 4, which are done"):
        resume(tmp_path / "run", **mine, meta_steps=3)
    assert resume(tmp_path / "run", **mine).step == 4
    assert resume(tmp_path / "run", **mine, meta_steps=6).step == 6
    rates = [row["learning_rate"] for row in result_of(tmp_path / "run")[2]]
    short, long = warmup_cosine(config), warmup_cosine(dataclasses.replace(config, meta_steps=6))
    expected = [short(step) for step in range(4)] + [long(step) for step in (4, 5)]
    np.testing.assert_allclose(rates, np.asarray(expected), rtol=1e-5)
    # The settings are those of a run of six meta-steps from now on.
    assert resume(tmp_path / "run", **mine).step == 6


class _Killed(Exception):
    pass


@pytest.mark.optimized
def test_an_extension_that_is_interrupted_has_the_bits_of_one_that_is_not(tmp_path):
    config, mine = own(tmp_path / "whole")
    run(config, **mine)
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")

    def die(step, info):
        # After the checkpoint of meta-step 6, so that it goes on from a state of the extension.
        if step == 7:
            raise _Killed

    resume(tmp_path / "whole", **mine, meta_steps=8)
    with pytest.raises(_Killed):
        resume(tmp_path / "killed", **mine, meta_steps=8, callback=die)
    assert resume(tmp_path / "killed", **mine).step == 8
    assert result_of(tmp_path / "killed") == result_of(tmp_path / "whole")


def test_card_of_a_mixture(tmp_path):
    components = (
        Component("mine", name="a", num_workers=4, local_optimizer="sgd,learning_rate=0.1"),
        Component("mine", name="b", local_optimizer="adam,learning_rate=0.01"),
    )
    config, mine = own(tmp_path / "run", components=components, meta_steps=1)
    checkpoint = load_checkpoint(run(config, **mine).optimizer_path, {"mine": my_optimizer})
    assert checkpoint.local_opt is None
    card = checkpoint.card
    assert card["local_optimizers"] == {"a": "sgd,learning_rate=0.1", "b": "adam,learning_rate=0.01"}
    assert (card["task"], card["num_workers"], card["num_local_steps"], card["batch_size"]) == ("a + b", [2, 4], 1, 4)
    # The same local optimizer in all of them is one recipe, whatever the run's own setting is.
    alike = tuple(dataclasses.replace(c, local_optimizer="adam_b1_0,learning_rate=0.01") for c in components)
    config, mine = own(tmp_path / "alike", components=alike)
    trainer = build_trainer(config, Given(**mine))
    assert trainer.local_opt == {"name": "adam_b1_0", "learning_rate": 0.01}
    assert "local_optimizers" not in trainer.card


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"lopt": my_optimizer}, "lopt=<function my_optimizer.*: call it first; use a learned_opt.LearnedOptimizer"),
        ({"lopt": my_optimizer()._replace(reads="means")}, "lopt: reads='means': use one of gradient"),
        ({"families": regression_family("mine")}, r"families=.*: use a dict, {'mine': family} for task='mine'"),
        ({"families": {"mine": regression_family}}, r"families\['mine'\]=<function.*: call it first; use a tasks"),
        ({"families": {"mime": regression_family("mine")}}, "task='mine': did you mean 'mime'"),
        ({"callback": lambda row: None}, r"callback=.*: use a function of \(step, row\)"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_what_is_given_is_checked_before_anything_is_written(tmp_path, mistake, message):
    config, mine = own(tmp_path / "run")
    with pytest.raises(ValueError, match=message) as caught:
        run(config, **{**mine, **mistake})
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_mistakes_are_named_before_anything_is_written(tmp_path):
    config, mine = own(tmp_path / "run", task="other")
    with pytest.raises(ValueError, match="'other' is unknown"):
        run(config, **mine)
    config, mine = own(tmp_path / "run")
    with pytest.raises(ValueError, match="give it 'architecture'"):
        run(config, lopt=mine["lopt"]._replace(config={}), families=mine["families"])
    family = mine["families"]["mine"]
    data = {split: leaves for split, leaves in family.data.items() if split != "test"}
    with pytest.raises(ValueError, match="mine: its data have no split test"):
        run(config, lopt=mine["lopt"], families={"mine": family._replace(data=data)})
    assert not (tmp_path / "run" / "config.json").exists()
