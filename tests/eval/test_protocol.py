"""Odd protocols get an error that names the field, the value and what to use."""

import dataclasses

import pytest

from eval.protocol import PROTOCOLS, EvalProtocol, make_protocol
from tests.eval.toy import TOY


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_workers": 0}, "num_workers=0: use an integer of at least 1"),
        ({"num_local_steps": -1}, "num_local_steps=-1"),
        ({"batch_size": 1.5}, "batch_size=1.5"),
        ({"num_seeds": True}, "num_seeds=True"),
        ({"seed": -1}, "seed=-1: use an integer of at least 0"),
        ({"seed": 2**32}, "seed=4294967296: use 0 to"),
        ({"eval_every": 4}, "eval_every=4: use a divisor of num_rounds=6"),
        ({"schedule": "cosin"}, "schedule='cosin': did you mean 'cosine'"),
        ({"ema": 1.0}, "ema=1.0: use a number between 0 and 1"),
        ({"ema": "0.9"}, "ema='0.9'"),
        ({"task": ""}, "task='': name a task family"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_odd_values(change, message):
    with pytest.raises(ValueError, match=message.replace("^", r"\^")):
        dataclasses.replace(TOY, **change)


def test_named_protocols_match_their_names():
    protocol = PROTOCOLS["fmnist8_k8_h4"]
    assert (protocol.num_workers, protocol.num_local_steps, protocol.batch_size) == (8, 4, 128)
    assert protocol.num_rounds == 1000 and "demo" in PROTOCOLS


def ten_rounds():
    return EvalProtocol(task="fmnist8_mlp32", num_rounds=10)


def a_task():
    return "fmnist8_mlp32"


def test_protocols_by_reference():
    assert make_protocol("demo") == PROTOCOLS["demo"]
    assert make_protocol("demo,num_rounds=10,seed=3") == dataclasses.replace(PROTOCOLS["demo"], num_rounds=10, seed=3)
    assert make_protocol(f"{__file__}:ten_rounds").num_rounds == 10
    for reference, message in (
        ("demi", "protocol: 'demi' is unknown; did you mean 'demo'"),
        ("demo,num_round=3", "no field 'num_round'; did you mean 'num_rounds'"),
        ("demo,num_rounds=0", "num_rounds=0: use an integer"),
        (f"{__file__}:a_task", "returned str: return an EvalProtocol"),
    ):
        with pytest.raises(ValueError, match=message):
            make_protocol(reference)
