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
from eval.diagnostics.path_geometry import PATH_GEOMETRY
from eval.diagnostics.requirements import LAST_LAYER, LINEAR_NET
from eval.diagnostics.table import DIAGNOSTICS, chosen, description, measurable, round_measure
from eval.results import load_results
from eval.sweep.suite import suite_family, suite_plan
from eval.sweep.sweep import check_sweep
from eval.task_families import make_family
from learned_opt.algorithms.server import fedavg
from tasks.families.sequences.modular_arithmetic import modular_arithmetic
from tasks.families.theory.two_layer_linear import two_layer_linear
from tasks.families.theory.xor_clusters import xor_clusters
from tasks.networks.classification import cross_entropy
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
    names = (
        *("worker_agreement", "interference_gap", "path_geometry", "distance_from_initialisation", "fisher_trace"),
        *("sharpness", "sharpness_times_rate", "effective_learning_rate", f"{__file__}:largest_weight"),
    )
    protocol = dataclasses.replace(TOY, num_rounds=24, eval_every=2, diagnostics=names)
    only = contender("local_sgd", protocol, lambda h: fedavg(), {}, lambda h: optax.sgd(0.5))
    compare(protocol, [], tmp_path, baselines=(), contenders=[only], family=toy_family())
    found = load_results(tmp_path / "results.json")
    assert found.protocol == protocol
    curves = found.contenders[0].diagnostics
    assert set(curves) >= {"coherence", "fisher_trace", "largest_weight"}
    unmoved = {diagnostic.name for diagnostic in PATH_GEOMETRY}
    for name, values in curves.items():
        assert values.shape == (3, 12), name
        measured = np.isfinite(values).sum(axis=1)
        # Every round's last, or ten of the twelve points; at its end a run is where it ends, which has no direction.
        expected = 12 if name in ("consensus_distance", "coherence", "interference_gap") else 10 - (name in unmoved)
        assert np.all(measured == expected) or name in ("worker_cosine", "noise_scale", "relative_consensus"), name
        assert name in unmoved or np.isfinite(values[:, -1]).all()
    distance = curves["distance_from_initialisation"]
    assert distance[0, -1] > np.nanmin(distance[0]) > 0
    # Local SGD's own rate, and movements over two rounds: none as far as from the start.
    measured = np.isfinite(distance)
    np.testing.assert_allclose(curves["sharpness_times_rate"][measured], 0.5 * curves["sharpness"][measured], rtol=1e-5)
    assert np.all(curves["effective_learning_rate"][measured] > 0)


def lacking(**changes):
    """The toy family with another task."""
    family = toy_family()
    return family._replace(task=lambda config, data: family.task(config, data)._replace(**changes))


def doubled_loss(params, key, batch):
    return 2 * toy_family().task({}, toy_family().data).loss(params, key, batch)


def tanh_loss(params, key, batch):
    logits = jnp.tanh(batch["image"].reshape(-1, 4) @ params["Dense_0"]["kernel"])
    return jnp.mean(cross_entropy(logits, batch["label"]))


def test_groups_lose_what_a_family_cannot_have():
    names = [diagnostic.name for diagnostic in measurable(("all",), toy_family())]
    assert set(DIAGNOSTICS) - set(names) == {"balancedness_drift"}
    bare = {diagnostic.name for diagnostic in measurable(("all", "coherence"), two_layer_linear())}
    assert bare == {name for name, d in DIAGNOSTICS.items() if d.requires in (None, LINEAR_NET)}


@pytest.mark.parametrize(
    ("names", "family", "message"),
    [
        (
            ("sharpness", "fisher_trace"),
            two_layer_linear(),
            "'fisher_trace': the task family two_layer_linear has no cl",
        ),
        (
            ("neural_collapse",),
            two_layer_linear(),
            "has no classes; leave it out, or use one that has classes and a la",
        ),
        (("fisher_trace",), lacking(loss=doubled_loss), "toy has a loss that is not the cross-entropy of its labels"),
        (("nc1",), lacking(loss=tanh_loss), r"toy has no last layer of a matrix \[features, classes\].*fmnist8_mlp32"),
        (("ntk_drift",), xor_clusters(), "xor_clusters has no labels 0, 1"),
        (("input_sensitivity",), modular_arithmetic(5), "modular_arithmetic has no real-valued inputs.*image_vit"),
        (("balancedness_drift",), toy_family(), "toy is no two-layer linear net; .*: two_layer_linear"),
        (("sharpnes",), toy_family(), "did you mean 'sharpness'"),
    ],
)
def test_what_a_family_lacks_is_said_in_one_line(names, family, message):
    with pytest.raises(ValueError, match=message) as error:
        measurable(names, family)
    assert "\n" not in str(error.value)


def test_it_is_said_before_any_training(tmp_path, capsys):
    flags = ["--task", "two_layer_linear", "--baselines", "local_sgd", "--out-dir", str(tmp_path)]
    assert main(["compare", *flags, "--diagnostics", "nc1"]) == 2
    assert "two_layer_linear has no classes" in capsys.readouterr().err
    plan = suite_plan("two_layer_linear", dataclasses.replace(TOY, diagnostics=("nc1",)), [], baselines=())
    with pytest.raises(ValueError, match=r"two_layer_linear: diagnostics='nc1': .* has no classes"):
        check_sweep(plan, tmp_path / "sweep", suite_family)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("fmnist8_mlp32", None),
        ("fmnist8_cnn", None),
        ("omniglot8_resnet", None),
        ("omniglot8_vit", None),
        ("omniglot8_mixer", None),
        ("modular_arithmetic", None),
        ("modular_arithmetic_stablemax", "has no last layer"),
        ("omniglot8_hypernetwork", "not the cross-entropy"),
        ("sparse_parity", "no labels 0"),
        ("omniglot8_siamese", "no classes"),
    ],
)
def test_the_families_that_are_named_have_classes_and_a_last_layer(name, lacks):
    found = next((lack for check in LAST_LAYER.checks if (lack := check(make_family(name))) is not None), None)
    assert found is None if lacks is None else lacks in found
