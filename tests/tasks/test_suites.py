"""The suites: what is judged on is not trained on, and the command line shows them."""

import re
import subprocess
import sys

import pytest

from tasks.__main__ import gradient_ms, main
from tasks.suites import (
    FAMILIES,
    META_TEST,
    META_TEST_MORE,
    META_TEST_ORDINARY,
    META_TRAIN,
    META_VALID,
    SUITES,
    make_family,
    names_of,
)
from tests.tasks.adam_settings import ADAM


@pytest.mark.parametrize("attribute", ["dataset", "architecture"])
def test_nothing_of_meta_test_occurs_in_meta_train(attribute):
    trained = {getattr(entry, attribute) for entry in META_TRAIN.values()}
    for entry in META_TEST.values():
        is_named = attribute == "architecture" and "(network seen" in entry.description
        assert (getattr(entry, attribute) in trained) == is_named


def test_no_dataset_of_meta_test_more_occurs_in_meta_train_and_it_says_what_has_been_seen():
    seen = {entry.dataset for entry in (META_TRAIN | META_VALID).values()}
    networks = {entry.architecture for entry in META_TRAIN.values()}
    for entry in META_TEST_MORE.values():
        assert entry.dataset not in seen and entry.paper
        assert entry.architecture not in networks or re.search(r"\((images|network) seen", entry.description)


def test_every_family_is_in_one_suite_and_bears_its_name():
    assert len(FAMILIES) == sum(map(len, SUITES.values()))
    assert len(META_TEST) >= 20
    for name in ("omniglot8_resnet", "shakespeare_gru", "pinn_burgers", "quadratics32", *META_TEST_MORE):
        assert make_family(name).name == name


def test_problems_of_ordinary_size_say_what_meta_training_has_seen_of_them():
    seen = {entry.dataset for entry in (META_TRAIN | META_VALID).values()}
    for entry in META_TEST_ORDINARY.values():
        assert ("seen at 8x8" if entry.dataset in seen else "unseen") in entry.description
    assert min(entry.num_params for entry in META_TEST_ORDINARY.values()) > 50_000


def test_every_family_has_a_tuned_adam():
    assert set(ADAM) == set(FAMILIES)


def test_names_of_suites_stand_for_their_families():
    assert names_of(["meta_valid", "fmnist8_mlp32"]) == (*META_VALID, "fmnist8_mlp32")
    assert names_of(list(SUITES)) == tuple(FAMILIES)
    with pytest.raises(ValueError, match="'meta_tset': did you mean meta_test"):
        names_of(["meta_tset"])
    with pytest.raises(ValueError, match="'meta_test' is a suite of"):
        make_family("meta_test")


def test_the_list_builds_nothing(capsys, monkeypatch):
    def must_not_run(name):
        raise AssertionError(name)

    monkeypatch.setattr("tasks.__main__.make_family", must_not_run)
    assert main([]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert lines.keys() == {*FAMILIES, *SUITES, "name"}
    for text in ("56,970", " cifar10 ", " cnn ", "CIFAR-10, three 3x3 convolutions"):
        assert text in lines["cifar10_cnn"]
    assert lines["attention_svm"].endswith("(Ataee Tarzanagh et al. 2023, arXiv 2308.16898)")


def test_the_table_shows_what_was_asked_for(capsys):
    assert main(["quadratics32", "xor_clusters", "--time"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert [line.split()[0] for line in lines] == [
        "meta_train",
        "name",
        "quadratics32",
        "meta_test",
        "name",
        "xor_clusters",
    ]
    params, megabytes, milliseconds, constant = lines[-1].split()[1:5]
    assert params == "2,560" and float(constant) == 0.693
    assert float(megabytes) > 0 and float(milliseconds) > 0
    assert gradient_ms(make_family("xor_clusters")) > 0


def test_a_missing_dataset_is_a_line_of_the_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LEARNED_OPT_DATA", "undone after the test, as what the command sets is")
    assert main(["cifar10_cnn", "--time", "--data-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "56,970" in shown and "LEARNED_OPT_DATA" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["xor_cluster"], "did you mean xor_clusters"),
        (["zzz"], "use a suite (meta_train, meta_valid,"),
        (["--tme"], "--tme; 'python -m tasks --help' lists what there is"),
        (["--data-dir", "no/such/folder"], "--data-dir no/such/folder: there is no such folder"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("tasks: error: ") and len(error.splitlines()) == 1


def test_the_command_line_runs():
    done = subprocess.run([sys.executable, "-m", "tasks", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "meta_test" in done.stdout
