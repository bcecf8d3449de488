"""Who takes part, named by reference: baselines with arguments, and what a user's own function returns."""

from typing import Any

import jax.numpy as jnp
import optax
import pytest

from eval.compare.contenders import Contender, contender
from eval.compare.grids import GridAxis
from eval.compare.participants import named_contender, participants
from learned_opt.algorithms.local_sgd import local_sgd
from tests.eval.toy import TOY


def lion(protocol, learning_rate=1e-3):
    return contender(f"lion_{protocol.num_workers}", protocol, lambda h: optax.lion(learning_rate), {})


def signs():
    return optax.sign_sgd(0.5)


def averaging(rate=0.1):
    return local_sgd(optax.sgd(rate), optax.sgd(1.0))


def a_number():
    return 3


def wants(size):
    return size


def test_a_contender_an_optax_transform_and_an_algorithm():
    made = named_contender(f"{__file__}:lion", TOY)
    assert made.name == "lion_2" and made.details["made_by"] == f"{__file__}:lion" and made.kind == "other"
    transform = named_contender(f"{__file__}:signs", TOY)
    assert transform.name == "signs" and transform.grid == {} and transform.make({}).init({"w": 0.0}).worker == ()
    algorithm = named_contender(f"slow={__file__}:averaging,rate=0.5", TOY)
    assert algorithm.name == "slow" and algorithm.make({}).init({"w": jnp.zeros(2)}).worker != ()
    ready = named_contender("optax:sgd,learning_rate=0.25", TOY)
    assert ready.name == "sgd" and ready.details["made_by"] == "optax:sgd,learning_rate=0.25"


def test_a_baseline_with_arguments_keeps_its_grid_and_kind():
    made = named_contender("calm=diloco_adamw,momentum=0.5", TOY)
    assert made.name == "calm" and made.kind == "baseline" and len(made.grid) == 3
    assert made.details["made_by"] == "diloco_adamw,momentum=0.5"
    assert named_contender("slowmo", TOY).details == {}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("lin", "contender: 'lin' is unknown"),
        ("no_such_module:f", "no_such_module"),
        (f"{__file__}:none", "has no 'none'"),
        (f"{__file__}:a_number", "returned int: return an eval.compare.contenders.Contender"),
        (f"{__file__}:wants", "lacks size: add ,size=VALUE"),
        (f"{__file__}:lion,rate=3", "has no argument 'rate'"),
        ("optax:sgd", "lacks learning_rate: add ,learning_rate=VALUE"),
    ],
)
def test_mistakes(reference, message):
    with pytest.raises(ValueError) as caught:
        named_contender(reference, TOY)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_everyone_is_in_the_order_of_tables_and_has_a_name_of_his_own():
    hand_made = contender("mine", TOY, lambda h: optax.sgd(0.1), {})
    everyone = participants(TOY, baselines=("targets",), contenders=(hand_made, f"{__file__}:signs"))
    assert [c.name for c in everyone] == ["local_sgd", "diloco", "mine", "signs"]
    with pytest.raises(ValueError, match="two contenders are called 'diloco'"):
        participants(TOY, baselines=("targets",), contenders=("diloco",))


RATES = {"rate": GridAxis((0.1, 0.2, 0.4))}
ODD: Any = Contender("odd", lambda h: averaging(h["rate"]), RATES)._replace


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"contenders": "mine"}, "contenders='mine': use a list, ['mine']"),
        ({"baselines": "targets"}, "baselines='targets': use a list, ['targets']"),
        ({"contenders": [lion]}, "call it with the protocol; use an eval.compare.contenders.Contender"),
        (
            {"contenders": [ODD(grid={"rate": (0.1, 0.2)})]},
            "contender 'odd': grid['rate']=(0.1, 0.2): use eval.compare.gri",
        ),
        ({"contenders": [ODD(make=lambda h: h["rat"])]}, "contender 'odd': its make wants 'rat', its grid has rate"),
        (
            {"contenders": [ODD(make=lambda h: optax.sgd(1.0))]},
            "its make returns GradientTransformationExtraArgs: return",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_odd_contenders_are_named_before_anything_trains(given, message):
    with pytest.raises(ValueError) as caught:
        participants(TOY, **{"baselines": ("targets",), **given})
    assert message in str(caught.value) and "\n" not in str(caught.value)
