"""Diagnostics by name, group and reference, and a user's own in a whole comparison."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eval.__main__ import main
from eval.compare.compare import compare
from eval.compare.contenders import contender
from eval.diagnostics.base import Diagnostic
from eval.diagnostics.table import DIAGNOSTICS, chosen, description, round_measure
from eval.results import load_results
from learned_opt.algorithms.server import fedavg
from tests.eval.toy import TOY, toy_family


def largest_weight():
    def measure(snapshot):
        """Largest weight."""
        return jnp.max(jnp.abs(snapshot.params["Dense_0"]["kernel"]))

    return Diagnostic("largest_weight", "snapshot", measure)


def a_number():
    return 3


def test_names_groups_and_references():
    assert [d.name for d in chosen(("worker_agreement", "sharpness", "coherence"))] == [
        "consensus_distance",
        "relative_consensus",
        "worker_cosine",
        "coherence",
        "noise_scale",
        "sharpness",
    ]
    assert chosen((f"{__file__}:largest_weight",))[0].name == "largest_weight"
    for reference, message in (
        ("sharpnes", "diagnostic: 'sharpnes' is unknown; did you mean 'sharpness'"),
        (f"{__file__}:a_number", "returned int: return a Diagnostic"),
    ):
        with pytest.raises(ValueError, match=message):
            chosen((reference,))


def test_a_single_worker_and_no_name_measure_nothing():
    assert round_measure(("worker_agreement",), 1) is None and round_measure(("sharpness",), 8) is None


def test_the_list_describes_every_one(capsys):
    assert main(["diagnostics"]) == 0
    shown = capsys.readouterr().out
    for name, diagnostic in DIAGNOSTICS.items():
        assert len(description(diagnostic)) > 20 and f"{description(diagnostic)}" in shown and name in shown


def test_they_are_recorded_as_curves(tmp_path):
    names = ("worker_agreement", "distance_from_initialisation", "fisher_trace", f"{__file__}:largest_weight")
    protocol = dataclasses.replace(TOY, num_rounds=24, eval_every=2, diagnostics=names)
    only = contender("local_sgd", protocol, lambda h: fedavg(), {}, lambda h: optax.sgd(0.5))
    compare(protocol, [], tmp_path, baselines=(), contenders=[only], family=toy_family())
    found = load_results(tmp_path / "results.json")
    assert found.protocol == protocol
    curves = found.contenders[0].diagnostics
    assert set(curves) >= {"coherence", "fisher_trace", "largest_weight"}
    for name, values in curves.items():
        assert values.shape == (3, 12), name
        measured = np.isfinite(values).sum(axis=1)
        assert np.all(measured == (12 if name in ("consensus_distance", "coherence") else measured[0])), name
    # Ten of the twelve points, the last one among them; it grows from one to the next.
    distance = curves["distance_from_initialisation"]
    assert np.isfinite(distance[0]).sum() == 10 and np.isfinite(distance[:, -1]).all()
    assert distance[0, -1] > distance[0, 0] > 0
