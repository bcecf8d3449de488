"""Checkpoints as folders, and the library's own command line."""

import hashlib
import itertools
import json
import subprocess
import sys
import types

import jax
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.__main__ import main
from learned_opt.checkpoint.model_folder import export_folder, push_to_hub
from learned_opt.checkpoint.usage import usage_lines
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
    assert card is not None and f"# {name}\n" in card
    assert "\n".join(usage_lines(name, learned_opt.load_checkpoint(name))) in card
    assert "## Results" in card and "## Where it loses" in card


def test_a_pretrained_optimizer_brings_its_model_card(tmp_path):
    folder = export_folder(NAME, tmp_path / "out")
    card = (folder / "README.md").read_text()
    assert f"# {NAME}" in card and card.startswith("---\nlicense: apache-2.0")
    with pytest.raises(ValueError, match=r"README.md|model.safetensors"):
        export_folder(NAME, folder)


def test_a_folder_brings_the_model_card_in_it(checkpoint_file, tmp_path, monkeypatch):
    folder = export_folder(checkpoint_file, tmp_path / "out")
    (folder / "README.md").write_text("# Mine\n")
    assert (export_folder(folder, tmp_path / "again") / "README.md").read_text() == "# Mine\n"
    # A file that is called as a pretrained optimizer is another one.
    checkpoint_file.rename(tmp_path / NAME)
    monkeypatch.chdir(tmp_path)
    assert "Not evaluated" in (export_folder(NAME, tmp_path / "named") / "README.md").read_text()


def test_a_damaged_folder_is_refused(checkpoint_file, tmp_path):
    folder = export_folder(checkpoint_file, tmp_path / "out")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="SHA-256"):
        learned_opt.load(folder)
    with pytest.raises(FileNotFoundError, match="the folder holds no model.safetensors .* no optimizer.safetensors"):
        learned_opt.load(tmp_path)


def test_a_run_folder_loads_as_the_optimizer_in_it(checkpoint_file, tmp_path):
    run_dir = tmp_path / "run"
    (run_dir / "checkpoints").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="a run writes it with its first checkpoint"):
        learned_opt.load(run_dir)
    checkpoint_file.rename(run_dir / "optimizer.safetensors")
    for path in (run_dir, str(run_dir)):
        assert learned_opt.load_checkpoint(path).card["task"] == "toy"
        assert learned_opt.load(path).init({"w": np.ones(2, np.float32)})
    assert (export_folder(run_dir, tmp_path / "out") / "README.md").read_text().startswith("---")


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


def test_list_says_what_each_reads_and_its_local_steps(capsys):
    assert main(["list"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == learned_opt.pretrained_names()
    columns = [heading.index(c) for c in ("reads", "local optimizer", "workers", "meta-trained at", "on")] + [None]
    found = {
        n: [line[a:b].strip() for a, b in itertools.pairwise(columns)]
        for n, line in zip(learned_opt.pretrained_names(), lines, strict=True)
    }
    at = "K = 4, 8; H = 1, 4, 16; batch 8, 32"
    assert found["lopt_generalist"] == ["mean pseudo-gradient", "adam_b1_0 at 0.01", "any number", at, "8 tasks"]
    at = "K = 8; H = 4; batch 128"
    assert found["lagg_fmnist8_k8_h4"] == [
        "every worker's pseudo-gradient",
        "sgd at 0.5",
        "8 only",
        at,
        "fmnist8_mlp32",
    ]
    assert found["lagg_any"][3] == "K = 1 to 32; H = 1 to 64; batch 4 to 32"
    assert found["adafac_generalist"][:3] == ["gradients", "none", "one machine"]


def test_inspect_shows_everything_but_the_settings_and_how_to_call_it(tmp_path, capsys):
    assert main(["inspect", NAME]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120
    checkpoint = learned_opt.load_checkpoint(NAME)
    fields, _, snippet = text.partition("\n\n")
    assert snippet.splitlines() == usage_lines(NAME, checkpoint) and len(snippet.splitlines()) == 5
    shown = dict(line.split(maxsplit=1) for line in fields.splitlines())
    assert int(shown["meta-parameters"]) == sum(leaf.size for leaf in jax.tree.leaves(checkpoint.theta))
    assert shown["reads"] == "gradients" and shown["meta_train_config"].endswith("shown with --all")
    assert main(["export", NAME, str(tmp_path / "out")]) == 0
    digest = hashlib.sha256((tmp_path / "out" / "model.safetensors").read_bytes()).hexdigest()
    assert shown["file"].endswith(digest)


def test_inspect_all_has_a_line_for_every_setting(capsys):
    assert main(["inspect", "lopt_generalist", "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 140
    shown = dict(line.split(maxsplit=1) for line in lines if line.startswith("meta_train_config"))
    settings = learned_opt.load_checkpoint("lopt_generalist").card["meta_train_config"]
    assert shown["meta_train_config.local_optimizer"] == "adam_b1_0"
    assert shown["meta_train_config.components.1.num_local_steps"] == "16"
    plain = {name for name, value in settings.items() if not isinstance(value, list) and value is not None}
    assert {f"meta_train_config.{name}" for name in plain} <= shown.keys()


def test_card_prints_the_model_card(checkpoint_file, tmp_path, capsys):
    assert main(["card", NAME]) == 0
    assert capsys.readouterr().out.rstrip() == str(find_model_card(NAME)).rstrip()
    folder = export_folder(checkpoint_file, tmp_path / "out")
    (folder / "README.md").write_text("# By hand\n")
    assert main(["card", str(folder)]) == 0
    assert capsys.readouterr().out == "# By hand\n"
    assert main(["card", str(checkpoint_file)]) == 0
    made = capsys.readouterr().out
    assert "# mine" in made and "| reads | gradients |" in made and "learned_opt.load(" in made


def _own(rate=0.5):
    return learned_opt.LearnedOptimizer(
        lambda key: {"rate": jax.numpy.float32(rate)},
        lambda theta, num_steps=None: optax.with_extra_args_support(optax.sgd(theta["rate"])),
        {"architecture": "_own", "rate": rate},
    )


_SGD = {"name": "sgd", "learning_rate": 0.1}
_LOPTS = {
    "adafac": (learned_opt.adafac_mlp_lopt(hidden_size=2, nominal="adam"), None),
    "lopt_a": (learned_opt.lopt_a(hidden_size=2, nominal="average"), _SGD),
    "lagg_a": (learned_opt.lagg_a(num_workers=3, hidden_size=2, nominal="average"), _SGD),
    "no recipe": (learned_opt.lopt_a(hidden_size=2, nominal="average"), None),
    "told the length": (learned_opt.celo_adam(lstm_hidden_size=2), None),
    "own": (_own(), _SGD),
}


@pytest.mark.parametrize(("lopt", "local_opt"), _LOPTS.values(), ids=_LOPTS.keys())
@jax.numpy_rank_promotion("allow")
def test_the_five_lines_run_as_they_stand(lopt, local_opt, tmp_path):
    path = str(tmp_path / "mine.safetensors")
    theta = lopt.init(jax.random.key(0))
    own = {"_own": _own}
    learned_opt.save(path, lopt, theta, local_opt=local_opt, num_workers=2, num_local_steps=3, architectures=own)
    lines = usage_lines(path, learned_opt.load_checkpoint(path, own))
    batch = np.ones((4,), np.float32)
    names = {
        "jax": jax,
        "optax": optax,
        "learned_opt": learned_opt,
        "_own": _own,
        "params": {"w": np.ones((), np.float32)},
        "key": jax.random.key(1),
        "loss_fn": lambda params, key, batch: jax.numpy.mean((params["w"] * batch - 2) ** 2),
        "batch": batch,
        "batches": np.ones((lopt.num_workers or 2, 3, 4), np.float32),
    }
    exec("\n".join(lines), names)
    assert len(lines) == 5 and names["params"]["w"] > 1


@pytest.mark.parametrize("command", ["inspect", "card", "export"])
def test_commands_take_an_architecture_of_ones_own(command, tmp_path, capsys):
    path, folder = tmp_path / "mine.safetensors", tmp_path / "out"
    learned_opt.save(path, _own(), {"rate": np.float32(0.5)}, architectures={"_own": _own})
    source = f"{path},architecture={__file__}:_own"
    assert main([command, source, *([str(folder)] if command == "export" else [])]) == 0
    text = (folder / "README.md").read_text() if command == "export" else capsys.readouterr().out
    assert 'architectures={"_own": _own}' in text and "mean pseudo-gradient" in text


def test_inspect_takes_an_optimizer_that_is_told_the_length(tmp_path, capsys):
    lopt = learned_opt.celo_adam(lstm_hidden_size=2)
    learned_opt.save(tmp_path / "celo.safetensors", lopt, lopt.init(jax.random.key(0)))
    assert main(["inspect", str(tmp_path / "celo.safetensors")]) == 0
    assert "num_steps=1_000)" in capsys.readouterr().out


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
