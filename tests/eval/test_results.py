"""The results file: a round trip keeps every number, and odd files get one line."""

import json

import numpy as np
import pytest

from eval.results import ContenderResult, Results, load_results, save_results
from tests.eval.toy import TOY


def toy_results():
    rng = np.random.default_rng(0)
    curve = rng.random((3, 6), np.float32)
    curve[1, 4:] = np.inf
    contender = ContenderResult(
        name="local_sgd",
        kind="baseline",
        details={},
        hparams={"lr": 0.1},
        tuning={"num_runs": 2, "extensions": 0, "interior": True, "trials": []},
        bytes_per_round=60,
        rounds=np.arange(1, 7),
        train_loss=curve,
        minibatch_loss=rng.random((3, 6), np.float32),
        final={
            "test": {
                "loss": np.array([0.1, np.inf, 0.3], np.float32),
                "accuracy": np.ones(3, np.float32),
            }
        },
        diagnostics={"worker_cosine": np.array([[0.5, np.nan]] * 3, np.float32)},
        cost={"compile_seconds": 1.25, "memory_bytes": None},
        counts={"communications": np.array([[2, 4, 6, 8, 9, 10]] * 3)},
        test_rounds=np.array([3, 6]),
        test_curves={"loss": np.array([[0.5, np.inf]] * 3, np.float32)},
    )
    return Results(TOY, {"argv": ["x"], "seconds": 1.5}, (contender,), {"name": "toy", "num_params": 15})


def test_round_trip_keeps_every_bit_and_the_same_results_the_same_bytes(tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    results = toy_results()
    save_results(first, results)
    loaded = load_results(first)
    save_results(second, loaded)
    assert first.read_bytes() == second.read_bytes()
    assert loaded.protocol == results.protocol and loaded.provenance == results.provenance
    before, after = results.contenders[0], loaded.contenders[0]
    for name in ("train_loss", "minibatch_loss", "rounds"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    np.testing.assert_array_equal(after.final["test"]["loss"], before.final["test"]["loss"])
    assert after.hparams == before.hparams and after.tuning == before.tuning and after.cost == before.cost
    np.testing.assert_array_equal(after.diagnostics["worker_cosine"], before.diagnostics["worker_cosine"])
    np.testing.assert_array_equal(after.test_curves["loss"], before.test_curves["loss"])
    np.testing.assert_array_equal(after.counts["communications"], before.counts["communications"])
    assert after.test_rounds.tolist() == [3, 6] and loaded.task == results.task


def test_a_file_of_version_1_is_read(tmp_path):
    path = tmp_path / "a.json"
    save_results(path, toy_results())
    document = json.loads(path.read_text())
    document["format_version"] = 1
    del document["task"]
    for field in ("tuning", "diagnostics", "schedule", "ema"):
        del document["protocol"][field]
    for field in ("diagnostics", "cost", "kind", "test_rounds", "test_curves", "counts"):
        del document["contenders"][0][field]
    path.write_text(json.dumps(document))
    loaded = load_results(path)
    assert loaded.protocol == TOY and loaded.contenders[0].kind == "baseline"
    assert loaded.contenders[0].diagnostics == loaded.contenders[0].cost == {}


@pytest.mark.parametrize(
    ("details", "kind"),
    [({}, "baseline"), ({"checkpoint": "a", "card": {}}, "learned"), ({"made_by": "m:f"}, "other")],
)
def test_kinds_of_a_file_of_version_2(tmp_path, details, kind):
    path = tmp_path / "a.json"
    save_results(path, toy_results())
    document = json.loads(path.read_text())
    document["format_version"] = 2
    document["protocol"]["worker_diagnostics"] = kind == "baseline"
    for field in ("diagnostics", "schedule", "ema"):
        del document["protocol"][field]
    del document["contenders"][0]["kind"]
    document["contenders"][0]["details"] = details
    path.write_text(json.dumps(document))
    loaded = load_results(path)
    assert loaded.contenders[0].kind == kind
    # Nothing was scheduled or averaged then.
    assert (loaded.protocol.schedule, loaded.protocol.ema) == ("constant", None)
    assert loaded.protocol.diagnostics == (("worker_agreement",) if kind == "baseline" else ())


def test_the_file_is_plain_json_without_nan_or_infinity(tmp_path):
    save_results(tmp_path / "a.json", toy_results())

    def refuse(constant):
        raise AssertionError(constant)

    document = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert document["contenders"][0]["train_loss"][1][4] is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or not JSON"),
        (b"\xff\xfe", "damaged or not JSON"),
        (b"[]", "not a results file"),
        (b'{"format_version": 99}', "format version 99, this code reads a results file up to 4"),
        (b'{"format_version": 1}', "damaged, its fields do not fit"),
        (b'{"format_version": 1, "protocol": 3}', "damaged, its fields do not fit"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_odd_files(tmp_path, content, message):
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_results(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "results.json"
    save_results(path, toy_results())
    whole = path.read_bytes()
    for end in range(0, len(whole) - 1, 50):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="damaged or not JSON"):
            load_results(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such results file"):
        load_results(tmp_path / "none.json")
    with pytest.raises(ValueError, match="is a folder"):
        load_results(tmp_path)
