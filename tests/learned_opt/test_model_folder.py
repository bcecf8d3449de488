"""Checkpoints as folders, and the library's own command line."""

import hashlib
import json
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

import learned_opt
from learned_opt.__main__ import main
from learned_opt.model_folder import export_folder, push_to_hub
from learned_opt.pretrained import find_model_card

NAME = learned_opt.pretrained_names()[0]


@pytest.fixture
def checkpoint_file(tmp_path):
    lopt = learned_opt.adafac_mlp_lopt(hidden_size=2)
    learned_opt.save(tmp_path / "mine.safetensors", lopt, lopt.init(jax.random.key(0)), task="toy", note='a "quote"')
    return tmp_path / "mine.safetensors"


def test_a_folder_loads_as_the_file_it_was_made_from(checkpoint_file, tmp_path):
    folder = export_folder(checkpoint_file, tmp_path / "a" / "b")
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert (folder / "model.safetensors").read_bytes() == checkpoint_file.read_bytes()
    first, second = learned_opt.load_checkpoint(checkpoint_file), learned_opt.load_checkpoint(folder)
    jax.tree.map(np.testing.assert_array_equal, first.theta, second.theta)
    config = json.loads((folder / "config.json").read_text())
    assert config["config"] == second.lopt.config and config["card"] == second.card
    assert "adafac_mlp_lopt" in (folder / "README.md").read_text()
    again = export_folder(folder, tmp_path / "c")
    assert (again / "model.safetensors").read_bytes() == checkpoint_file.read_bytes()


@pytest.mark.parametrize("name", learned_opt.pretrained_names())
def test_every_pretrained_optimizer_has_a_card_of_its_own(name):
    card = find_model_card(name)
    assert card is not None and f"# {name}\n" in card and f'learned_opt.load("{name}")' in card
    assert "## Results" in card and "## Where it loses" in card


def test_a_pretrained_optimizer_brings_its_model_card(tmp_path):
    folder = export_folder(NAME, tmp_path / "out")
    card = (folder / "README.md").read_text()
    assert f"# {NAME}" in card and card.startswith("---\nlicense: apache-2.0")
    with pytest.raises(ValueError, match=r"README.md|model.safetensors"):
        export_folder(NAME, folder)


def test_a_damaged_folder_is_refused(checkpoint_file, tmp_path):
    folder = export_folder(checkpoint_file, tmp_path / "out")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="SHA-256"):
        learned_opt.load(folder)
    with pytest.raises(FileNotFoundError, match="neither a file nor a pretrained"):
        learned_opt.load(tmp_path)


def test_push_to_hub_checks_the_folder_and_uploads_it(checkpoint_file, tmp_path, monkeypatch):
    calls = []

    class HfApi:
        def create_repo(self, repo_id, exist_ok):
            calls.append(("create", repo_id, exist_ok))

        def upload_folder(self, **kwargs):
            calls.append(("upload", kwargs))
            return "https://example.org/commit"

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(HfApi=HfApi))
    folder = export_folder(checkpoint_file, tmp_path / "out")
    assert push_to_hub(folder, "me/mine", revision="dev") == "https://example.org/commit"
    assert calls == [
        ("create", "me/mine", True),
        ("upload", {"folder_path": str(folder), "repo_id": "me/mine", "revision": "dev"}),
    ]
    with pytest.raises(FileNotFoundError, match="export_folder"):
        push_to_hub(tmp_path, "me/mine")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModuleNotFoundError, match=r"learned-opt\[hub\]"):
        push_to_hub(folder, "me/mine")


def test_command_line_lists_inspects_and_exports(tmp_path, capsys):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert [line.split(":")[0] for line in listed.splitlines()] == learned_opt.pretrained_names()
    assert main(["inspect", NAME]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    checkpoint = learned_opt.load_checkpoint(NAME)
    assert int(shown["meta-parameters"]) == sum(leaf.size for leaf in jax.tree.leaves(checkpoint.theta))
    assert main(["export", NAME, str(tmp_path / "out")]) == 0
    digest = hashlib.sha256((tmp_path / "out" / "model.safetensors").read_bytes()).hexdigest()
    assert shown["file"].endswith(digest)


def test_mistakes_get_one_line_and_exit_code_2(capsys, tmp_path):
    for arguments, message in [
        (["inspect", "lagg_fmnist8"], "did you mean"),
        (["export", "nowhere.safetensors", str(tmp_path)], "neither a file nor a pretrained"),
    ]:
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1
    done = subprocess.run([sys.executable, "-m", "learned_opt", "inspekt"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "invalid choice" in done.stderr
