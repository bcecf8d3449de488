"""One setting for all cells: chosen by hand-made tables, used with the tuned baseline's program."""

import dataclasses
import json

import pytest

from eval.compare.baselines import make_baselines
from eval.compare.one_setting import SHIPPED, calibrate, one_setting_contenders, save_calibration
from eval.compare.participants import participants
from eval.results import save_results
from tests.eval.made_up import contender, results
from tests.eval.toy import TOY

CURVE = [[3.0, 1.0]]


def tuned(losses, name="local_sgd", seconds=2.0):
    """A contender whose trials had these losses, by learning rate."""
    trials = [{"hparams": {"local_lr": lr}, "loss": loss} for lr, loss in losses.items()]
    record = {"num_runs": len(trials), "seconds": seconds, "extensions": 0, "interior": True, "trials": trials}
    return contender(name, CURVE, tuning=record)


# 0.2 is best in the first cell and bad in the second, 0.1 is within a factor 2 and 1 of the best; 0.8 diverged once.
FIRST = {0.1: 0.02, 0.2: 0.01, 0.4: 0.04, 0.8: 0.001}
SECOND = {0.05: 0.1, 0.1: 1.0, 0.2: 8.0, 0.4: 4.0, 0.8: None}


def cells(**changes):
    protocol = dataclasses.replace(TOY, **changes)
    return {
        "a": results(tuned(FIRST), tuned({0.1: 1.0, 0.3: 2.0}, "sgd"), protocol=protocol),
        "b": results(tuned(SECOND), protocol=dataclasses.replace(protocol, task="other")),
    }


def test_the_best_common_setting_has_the_lowest_mean_log_loss():
    found = calibrate(cells())
    # sqrt of products: 0.1 -> 0.02, 0.2 -> 0.08, 0.4 -> 0.16; 0.05 was tried in one cell only, sgd took part in one.
    assert list(found) == ["local_sgd"]
    assert found["local_sgd"] == ({"local_lr": 0.1}, 9, 4.0, ("local_lr",))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({}, "nothing to calibrate on"),
        ({**cells(), "c": results(tuned(FIRST), protocol=dataclasses.replace(TOY, seed=5))}, "c has seed=5, a 0"),
        ({"a": results(tuned({0.1: -1.0, 0.2: 1.0}))}, "local_sgd: a loss of the calibration is not positive"),
        ({"a": results(tuned({0.1: None}))}, "no setting was tried, and finite"),
    ],
)
def test_mistakes(made, message):
    with pytest.raises(ValueError, match=message):
        calibrate(made)


def test_rows_share_the_program_of_the_tuned_baseline_and_are_not_tuned(tmp_path):
    path = tmp_path / "one.json"
    save_calibration(path, cells(), ["python", "-m", "eval", "calibrate", "runs/x"])
    save_calibration(path, cells(schedule="cosine"), ["again"])
    everyone = participants(TOY, baselines=("targets",), one_setting=str(path))
    assert [c.name for c in everyone] == ["local_sgd", "diloco", "local_sgd_one_setting"]
    row = everyone[2]
    assert row.make is everyone[0].make and row.kind == "baseline"
    assert {name: axis.values for name, axis in row.grid.items()} == {"local_lr": (0.1,)}
    assert row.details["one_setting"]["num_runs"] == 9 and row.details["one_setting"]["cells"] == ["a", "b"]
    document = json.loads(path.read_text())["calibrations"]
    assert document["constant"]["command"] == "python -m eval calibrate runs/x"
    assert document["cosine"]["command"] == "again"
    assert one_setting_contenders(path, dataclasses.replace(TOY, schedule="wsd"), everyone[:2]) == []


def test_the_command_reads_runs(tmp_path, capsys):
    from eval.__main__ import main

    for name, result in cells().items():
        (tmp_path / name).mkdir()
        save_results(tmp_path / name / "results.json", result._replace(protocol=dataclasses.replace(TOY, task=name)))
    out = tmp_path / "one.json"
    assert main(["calibrate", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(out)]) == 0
    assert json.loads(out.read_text())["calibrations"]["constant"]["settings"]["local_sgd"]["hparams"] == {
        "local_lr": 0.1
    }
    assert main(["calibrate", str(tmp_path / "nowhere")]) == 2
    assert "no such results file" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", '{"format_version": 9}'])
def test_odd_files(tmp_path, content):
    path = tmp_path / "one.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="one.json: "):
        one_setting_contenders(path, TOY, make_baselines(TOY, ("targets",)))
    with pytest.raises(FileNotFoundError, match="no such calibration"):
        one_setting_contenders(tmp_path / "none.json", TOY, [])


def test_the_shipped_settings_fit_the_baselines():
    tuned = [contender for contender in make_baselines(TOY, ("core",)) if contender.grid]
    for schedule in json.loads(SHIPPED.read_text())["calibrations"]:
        rows = one_setting_contenders("shipped", dataclasses.replace(TOY, schedule=schedule), tuned)
        assert [row.name for row in rows] == [f"{c.name}_one_setting" for c in tuned]
