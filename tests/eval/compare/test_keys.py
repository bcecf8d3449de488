"""Training under comparison uses every key once, and draws batches of the size that the protocol says."""

import dataclasses
from collections import Counter

import jax
import optax

from eval.compare.contenders import Contender
from eval.compare.initial_states import FINAL, draw_initial_states
from eval.compare.runner import make_runner
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.server import fedavg
from tests.eval.toy import TOY
from tests.noisy_family import noisy_family, uses, watched


def test_every_key_is_used_once_and_batches_have_their_size():
    # A run for each device: a wave that is filled up repeats a run, and with it its keys.
    num_seeds = len(jax.devices())
    protocol = dataclasses.replace(
        TOY, num_rounds=2, num_workers=2, num_local_steps=3, batch_size=5, num_seeds=num_seeds
    )
    seen = []
    family = noisy_family(seen)
    train = {"train": family.data["train"]}
    contender = Contender("local_sgd", lambda h: watched(local_sgd(optax.sgd(0.1), fedavg()), seen), {})
    starts = draw_initial_states(family, protocol, train, FINAL, num_seeds)
    runner = make_runner(family, contender, protocol, train, starts)
    runner.train([{}], starts, lambda done, total: None)
    keys = uses(seen, "")
    assert len(keys) == len(set(keys))
    rounds = num_seeds * protocol.num_rounds
    assert Counter(what for what, _ in seen) == {
        "round": rounds,
        "batch of 30 from train": rounds,
        "loss": rounds * protocol.num_workers * protocol.num_local_steps,
    }
