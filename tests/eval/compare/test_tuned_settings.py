"""What baselines were tuned to, kept in one small file and used under the protocol it was found for, and no other."""

import dataclasses
import json

import pytest

from eval.__main__ import main
from eval.compare.baselines import make_baselines
from eval.compare.compare import compare
from eval.compare.earlier import chosen_before
from eval.compare.tuned_settings import SHIPPED, TUNING_FIELDS, load_settings, save_settings, settings_for
from eval.protocol import EvalProtocol
from eval.results import save_results
from eval.sweep.plan import Cell, SweepPlan
from eval.sweep.sweep import load_sweep, run_sweep
from tests.eval.made_up import contender, results
from tests.eval.toy import TOY, toy_family

LONGER = dataclasses.replace(TOY, num_rounds=12)


def tuned(rate, name="local_sgd", protocol=TOY, **fields):
    return results(contender(name, [[2.0, 1.0]], hparams={"local_lr": rate}, **fields), protocol=protocol)


def test_a_file_holds_settings_by_protocol_and_grows(tmp_path):
    path = tmp_path / "settings.json"
    assert save_settings(path, [tuned(0.1), tuned(0.2, protocol=LONGER)]) == 2
    assert save_settings(path, [tuned(0.4), tuned(0.3, "slowmo")]) == 2
    assert {name: entry["hparams"] for name, entry in settings_for(path, TOY).items()} == {
        "local_sgd": {"local_lr": 0.4},
        "slowmo": {"local_lr": 0.3},
    }
    assert settings_for(path, LONGER)["local_sgd"]["tuning"]["num_runs"] == 27
    assert settings_for(path, dataclasses.replace(TOY, schedule="cosine")) == {}
    assert {field: getattr(TOY, field) for field in TUNING_FIELDS} in [e["protocol"] for e in load_settings(path)]


def test_learned_optimizers_and_what_was_not_tuned_are_left_out(tmp_path):
    untuned = {"num_runs": 0, "extensions": 0, "interior": True, "trials": []}
    for made in (tuned(0.1, kind="learned", details={}), tuned(0.1, tuning=untuned)):
        with pytest.raises(ValueError, match="no baseline was tuned"):
            save_settings(tmp_path / "settings.json", [made])


def test_settings_are_trained_with_and_nothing_is_tuned(tmp_path):
    path = tmp_path / "settings.json"
    save_settings(path, [tuned(0.07)])
    arguments = {"baselines": ("local_sgd",), "family": toy_family()}
    found = compare(TOY, [], tmp_path / "out", baselines_from=path, **arguments)
    (row,) = found.contenders
    assert row.hparams == {"local_lr": 0.07} and row.tuning["num_runs"] == 27
    assert found.provenance["baselines_from"] == str(path)
    with pytest.raises(ValueError, match=r"settings\.json: no settings for task=toy, num_rounds=12"):
        compare(LONGER, [], tmp_path / "out", baselines_from=path, **arguments)
    with pytest.raises(ValueError, match="shipped: no settings for task=toy"):
        chosen_before("shipped", TOY, [])


def test_a_sweep_tunes_where_the_file_has_nothing(tmp_path):
    path = tmp_path / "settings.json"
    save_settings(path, [tuned(0.07)])
    cells = (Cell("short", TOY), Cell("long", LONGER))
    plan = SweepPlan("suite", "two", cells, baselines=("local_sgd",), baselines_from=str(path))
    run_sweep(plan, tmp_path / "run", lambda cell: toy_family())
    found = load_sweep(tmp_path / "run").finished
    assert found["short"].contenders[0].hparams == {"local_lr": 0.07}
    assert found["long"].contenders[0].tuning["trials"] and found["long"].provenance["baselines_from"] is None


def test_the_command_reads_runs(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    save_results(tmp_path / "run" / "results.json", tuned(0.1))
    out = tmp_path / "settings.json"
    assert main(["settings", str(tmp_path / "run"), "--out", str(out)]) == 0
    assert "holds settings of 1 comparisons" in capsys.readouterr().out
    assert settings_for(out, TOY)["local_sgd"]["hparams"] == {"local_lr": 0.1}
    assert main(["settings", str(tmp_path / "nowhere")]) == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"format_version": 9, "tuned": []}', '{"format_version": 1}'])
def test_odd_files(tmp_path, content):
    path = tmp_path / "settings.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="settings.json: "):
        load_settings(path)
    with pytest.raises(ValueError, match="settings.json: "):
        save_settings(path, [tuned(0.1)])
    with pytest.raises(FileNotFoundError, match="no such file of settings"):
        load_settings(tmp_path / "none.json")


def test_the_shipped_settings_are_those_of_todays_baselines():
    entries = load_settings("shipped")
    assert len(json.loads(SHIPPED.read_text())["tuned"]) == len(entries) >= 40
    for entry in entries:
        protocol = EvalProtocol(**entry["protocol"])
        everyone = make_baselines(protocol, tuple(entry["baselines"]))
        assert set(chosen_before("shipped", protocol, everyone)) == set(entry["baselines"])
