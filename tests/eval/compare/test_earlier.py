"""Earlier tuned settings are used under a protocol that shares what they were tuned for, and no other."""

import dataclasses

import pytest

from eval.compare.contenders import Contender
from eval.compare.earlier import chosen_before
from eval.compare.grids import GridAxis
from eval.protocol import EvalProtocol
from eval.results import save_results
from tests.eval.made_up import contender, results
from tests.eval.toy import TOY

DECISIVE = {
    "task": "another",
    "num_rounds": 12,
    "num_workers": 1,
    "num_local_steps": 1,
    "batch_size": 8,
    "tuning": "coarse",
    "schedule": "cosine",
    "ema": 0.5,
}
BASELINE = Contender("local_sgd", lambda hparams: None, {"lr": GridAxis((0.1,))}, kind="baseline")  # pyright: ignore[reportArgumentType]
OTHER = {
    "num_seeds": 4,
    "seed": 1,
    "tuning_seeds": 2,
    "max_extensions": 0,
    "eval_every": 2,
    "num_curve_examples": 8,
    "diagnostics": ("coherence",),
}


@pytest.fixture
def path(tmp_path):
    save_results(tmp_path / "results.json", results(contender("local_sgd", [[2.0, 1.0]])))
    return tmp_path / "results.json"


def test_every_field_of_the_protocol_is_one_or_the_other():
    assert {*DECISIVE, *OTHER} == {field.name for field in dataclasses.fields(EvalProtocol)}


@pytest.mark.parametrize("field", DECISIVE)
def test_settings_tuned_for_something_else_are_refused(path, field):
    other = dataclasses.replace(TOY, **{field: DECISIVE[field]})
    with pytest.raises(
        ValueError, match=f"tuned for {field}={getattr(TOY, field)}, the protocol has {DECISIVE[field]}"
    ):
        chosen_before(path, other, [])


@pytest.mark.parametrize("field", OTHER)
def test_what_does_not_change_the_best_setting_may_differ(path, field):
    found = chosen_before(path, dataclasses.replace(TOY, **{field: OTHER[field]}), [BASELINE])
    assert found["local_sgd"].hparams == {"lr": 0.1} and found["local_sgd"].result is None


def test_whoever_may_be_another_under_the_same_name_is_tuned_again(tmp_path):
    """A tuned learned optimizer is named by its architecture, whichever file it is from."""
    file = tmp_path / "results.json"
    for change in ({"kind": "learned"}, {"kind": "other"}, {"details": {"made_by": "local_sgd,momentum=0.5"}}):
        save_results(file, results(contender("local_sgd", [[2.0, 1.0]])._replace(**change)))
        assert chosen_before(file, TOY, [BASELINE._replace(**change)] if "kind" in change else [BASELINE]) == {}
    same = {"details": {"made_by": "local_sgd,momentum=0.5"}}
    assert "local_sgd" in chosen_before(file, TOY, [BASELINE._replace(**same)])
