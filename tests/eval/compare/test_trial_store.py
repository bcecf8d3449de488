"""An interrupted comparison takes its tuning up where it was, to the last bit, and only its own."""

import json

import jax
import numpy as np
import optax
import pytest

from eval.compare.compare import prepare, run
from eval.compare.contenders import Contender
from eval.compare.grids import GridAxis, log_spaced
from eval.compare.trial_store import Trial, digest, trial_store
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.server import fedavg
from tests.eval.toy import TOY, toy_data, toy_family

pytestmark = pytest.mark.optimized

GRID = {"lr": GridAxis(log_spaced(0.01, 0.1, 20))}


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def prepared(folder, factor=1.0, data=None):
    made = Contender("local_sgd", lambda h: local_sgd(optax.sgd(factor * h["lr"]), fedavg()), GRID, kind="baseline")
    return prepare(TOY, [], folder, baselines=(), contenders=[made], family=toy_family(data))


def interrupted(folder, after):
    def progress(stage, done, total):
        del total
        if stage.startswith("tuning") and done > after:
            raise Killed

    with pytest.raises(Killed):
        run(prepared(folder), progress)


def runs_to_do(comparison):
    """(results, tuning runs that were known when it began)."""
    first = []
    results = run(comparison, lambda stage, done, total: first.append((stage, done)))
    return results, dict(reversed(first))["tuning local_sgd"]


def test_finished_waves_are_used_again_to_the_last_bit(tmp_path):
    whole, known = runs_to_do(prepared(tmp_path / "whole"))
    assert known == 0
    wave = len(jax.devices())
    # The grid has 20 settings and its best one lies on the edge, so it grows: stop in the grid, and in its growth.
    for name, after, kept in (("early", wave, wave), ("late", 20, 20)):
        interrupted(tmp_path / name, after)
        (file,) = (tmp_path / name / "tuning").iterdir()
        assert len(json.loads(file.read_text())["trials"]) == kept
        again, known = runs_to_do(prepared(tmp_path / name))
        assert known == kept and not (tmp_path / name / "tuning").exists()
        ours, theirs = again.contenders[0], whole.contenders[0]
        assert {**ours.tuning, "seconds": 0} == {**theirs.tuning, "seconds": 0} and ours.hparams == theirs.hparams
        np.testing.assert_array_equal(ours.train_loss, theirs.train_loss)


@pytest.mark.parametrize("change", ["program", "data"])
def test_trials_of_another_program_or_other_data_are_not(tmp_path, change):
    interrupted(tmp_path, len(jax.devices()))
    data = toy_data()
    data["inner_valid"]["label"][0] = (data["inner_valid"]["label"][0] + 1) % 3
    other = prepared(tmp_path, factor=1.5) if change == "program" else prepared(tmp_path, data=data)
    assert runs_to_do(other)[1] == 0


def test_trials_come_back_as_they_were(tmp_path):
    store = trial_store(tmp_path / "new", "program", {"x": np.arange(3)})
    assert store.load() == ([], 0.0)
    trials = [Trial({"lr": 0.1}, float(np.float32(1) / 3)), Trial({"lr": 1e-7}, np.inf)]
    store.save(trials, 1.5)
    assert trial_store(tmp_path / "new", "program", {"x": np.arange(3)}).load() == (trials, 1.5)
    assert trial_store(tmp_path / "new", "program", {"x": np.arange(1, 4)}).load() == ([], 0.0)


def test_the_digest_sees_values_places_shapes_and_dtypes():
    trees = [
        {"a": np.zeros(4, np.float32)},
        {"b": np.zeros(4, np.float32)},
        {"a": np.zeros((2, 2), np.float32)},
        {"a": np.zeros(4, np.int32)},
        {"a": np.array([0, 0, 0, 1], np.float32)},
        {"a": np.zeros(0, np.float32)},
        {"a": np.zeros((), np.float32)},
    ]
    assert len({digest(tree) for tree in trees}) == len(trees)
    assert digest({"a": jax.numpy.zeros(4)}) == digest(trees[0])
