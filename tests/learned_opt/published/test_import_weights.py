"""Weight files in their published forms, and what is said about others."""

import io
import json
import pickle  # noqa: S403
import zipfile
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import learned_opt
from tests.learned_opt.published import recordings
from tests.learned_opt.published.recordings import Case

CELO = Case("celo_released", "A", False)
CELO2 = Case("celo2", "M", False)


def nested(theta):
    """As a flax file has it: haiku's modules by name, with a slash in it, their parameters inside."""
    tree = {}
    for name, array in theta.items():
        head, *rest = name.split("/")
        inner = tree.setdefault(head, {})
        if len(rest) > 1:
            inner.setdefault("/".join(rest[:-1]), {})[rest[-1]] = array
        else:
            inner[rest[0]] = array
    return tree


def written(path, form, theta):
    if form == "theta":
        path.write_bytes(flax.serialization.to_bytes(nested(theta)))
    elif form == "checkpoint":
        path.write_bytes(flax.serialization.to_bytes({"params": nested(theta), "gen_id": "a", "step": 3}))
    elif form == "safetensors":
        safetensors.numpy.save_file(theta, path)
    elif form == "dots":
        safetensors.numpy.save_file({name.replace("/", "."): array for name, array in theta.items()}, path)
    else:
        with path.open("wb") as file:
            np.savez_compressed(file, config="{}", **{f"theta/{name}": array for name, array in theta.items()})
    return path


def assert_same(found, expected):
    assert found[0].config == expected[0].config
    jax.tree.map(np.testing.assert_array_equal, found[1], expected[1])


@pytest.mark.parametrize("form", ["theta", "checkpoint", "safetensors", "dots", "npz"])
@pytest.mark.parametrize("case", [CELO, CELO2], ids=str)
def test_files_of_every_form(tmp_path, form, case):
    theta, arguments = recordings.theta_of(case), recordings.arguments_of(case)
    expected = learned_opt.import_weights(case.kind, theta, arguments)
    assert_same(learned_opt.import_weights(case.kind, written(tmp_path / "w", form, theta), arguments), expected)


def test_released_weights_need_no_arguments():
    lopt, theta = learned_opt.import_weights("celo", recordings.FOLDER / "celo_released_theta.npz")
    assert_same(
        (lopt, theta), learned_opt.import_weights("celo", recordings.theta_of(CELO), recordings.arguments_of(CELO))
    )
    assert lopt.config["phase"] == 2
    lopt, _ = learned_opt.import_weights("hyper_v2", recordings.theta_of(Case("hyper_v2_small", "A", False)))
    assert (lopt.config["lstm_hidden_size"], lopt.config["num_mlps"], lopt.config["loss_horizon"]) == (8, 4, True)


def test_imported_weights_become_a_checkpoint(tmp_path):
    lopt, theta = learned_opt.import_weights("celo2", recordings.theta_of(CELO2), recordings.arguments_of(CELO2))
    learned_opt.save(tmp_path / "celo2.safetensors", lopt, theta)
    loaded = learned_opt.load_checkpoint(tmp_path / "celo2.safetensors")
    assert_same((loaded.lopt, loaded.theta), (lopt, theta))


def test_celo2_has_three_published_forms():
    theta = recordings.theta_of(CELO2)

    def config(**arguments):
        return learned_opt.import_weights("celo2", theta, arguments)[0].config

    assert config() == config(recipe="README multi_transform") == learned_opt.celo2().config
    assert config(learning_rate=0.1, weight_decay=0.2) == learned_opt.celo2(0.1, 0.2).config
    assert config(orthogonalize=True, learning_rate=0.1) == learned_opt.celo2_base(0.1, orthogonalize=True).config
    wrapper = config(regex_1d="/b$", step_mult=0.1, adam_b2=0.95)
    assert (wrapper["adam_paths"], wrapper["adam_rank"], wrapper["learning_rate"]) == ("/b$", -1, 0.1)


def test_old_velo_checkpoints_say_so():
    theta = recordings.theta_of(Case("hyper_v2_small", "A", False))
    lopt, _ = learned_opt.import_weights(
        "hyper_v2", theta, {"use_bugged_next_lstm_state": True, "use_bugged_loss_features": True}
    )
    assert not lopt.config["keep_lstm_state"] and not lopt.config["loss_horizon"]
    tx = lopt.transform(lopt.init(jax.random.key(0)), num_steps=1000)
    params = {"w": jnp.ones((2,))}
    state: Any = tx.init(params)
    np.testing.assert_allclose(state.loss_buffer.decays, np.exp(-0.1), rtol=1e-6)
    new_state: Any = jax.jit(tx.update)(params, state, params, value=1.0)[1]
    np.testing.assert_array_equal(new_state.lstm.cell, state.lstm.cell)


def changed(theta, name, array):
    return {**theta, name: array}


THETA = recordings.theta_of(CELO)


@pytest.mark.parametrize(
    ("kind", "source", "arguments", "message"),
    [
        ("velo", THETA, {}, "kind='velo': .*use one of learnable_sgd, "),
        ("hyper_v2", THETA, {}, r"rnn_params/linear/w has shape \(18, 64\), this hyper_v2 needs \(30, 64\)"),
        ("celo_adam", THETA, {}, "has an unknown leaf 'ff_mod_stack/~/b0': these are not the weights of a celo_adam"),
        ("mlp_lopt", THETA, {}, "lacks leaf 'mlp/~/linear_0/b'"),
        ("celo", {}, {}, "lacks leaf"),
        (
            "celo",
            THETA,
            {"lstm_hidden_size": 32},
            r"has shape \(1, 64\), this celo needs \(1, 32\); give the arguments",
        ),
        (
            "celo",
            changed(THETA, "ff_mod_stack/~/w0__3", np.ones((1, 1, 4), np.float32)),
            {},
            r"\(1, 1, 4\).*\(1, 3, 4\)",
        ),
        (
            "celo",
            changed(THETA, "rnn_params/step_size/b", np.asarray([np.nan], np.float32)),
            {},
            "step_size/b holds NaN",
        ),
        ("celo", changed(THETA, "rnn_params/step_size/b", np.asarray([1])), {}, "step_size/b is int64"),
        ("celo", changed(THETA, "rnn_params/step_size/b", np.asarray([None])), {}, "step_size/b is object"),
        ("celo", THETA, {"train_fase": 2}, "no published argument 'train_fase'; did you mean 'train_phase'"),
        ("celo", THETA, {"with_g": False}, "with_g=False: celo is implemented with with_g=True only"),
        ("celo", THETA, {"initial_rms_decays": [0.9]}, r"initial_rms_decays=\[0.9\]: .*=\(0.999,\) only"),
        ("celo", THETA, {"train_phase": 3}, "celo cannot be built with these arguments: phase=3"),
    ],
)
def test_other_weights_are_refused(kind, source, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        learned_opt.import_weights(kind, source, arguments)
    assert "\n" not in str(error.value)


def test_arguments_of_another_type_are_named(unchecked_annotations):
    with pytest.raises(ValueError, match="celo cannot be built with these arguments: num_mlps='1': use a whole number"):
        learned_opt.import_weights("celo", THETA, {"param_inits": "1"})


@pytest.mark.usefixtures("unchecked_annotations")
def test_what_is_no_source_and_no_dict_is_named():
    odd: Any = (None, [1]), ("{}", [3])
    for source in odd[0]:
        with pytest.raises(ValueError, match="source=.*: use the path of a file, or a dict of arrays"):
            learned_opt.import_weights("celo", source)
    for arguments in odd[1]:
        with pytest.raises(ValueError, match="arguments=.*: use a dict of published arguments"):
            learned_opt.import_weights("celo", THETA, arguments)


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def bomb():
    """An npz whose header announces 4 TB, and one that unpacks to 300 MB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
        archive.writestr("w.npy", header.getvalue() + bytes(8))
    yield file.getvalue()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("w.npy", "w") as member:
        for _ in range(300):
            member.write(bytes(2**20))
    yield file.getvalue()


SHORT_BOMB, WIDE_BOMB = bomb()
BAD_FILES = {
    "pickle": (pickle.dumps({"w": [1.0]}), "pickle, which may run code"),
    "objects": (npz(w=np.asarray([{}], object)), "holds objects"),
    "announced": (SHORT_BOMB, "cut off"),
    "packed": (WIDE_BOMB, "unpacks to more than"),
    "half_npz": (npz(w=np.ones(100))[:300], "damaged npz"),
    "half_safetensors": (safetensors.numpy.save({"w": np.ones(100)})[:300], "damaged safetensors"),
    "half_msgpack": (flax.serialization.to_bytes(nested(THETA))[:5000], "as flax msgpack"),
    "text": (json.dumps({"w": 1}).encode(), "neither safetensors nor npz"),
    "empty": (b"", "neither safetensors nor npz"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_other_files_are_refused(tmp_path, name):
    content, message = BAD_FILES[name]
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(ValueError, match=f"weights: cannot be read as weights: .*{message}") as error:
        learned_opt.import_weights("celo", tmp_path / "weights")
    assert "\n" not in str(error.value)


def test_a_file_beyond_reason_is_not_read(tmp_path):
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=f"{2**40} bytes, more than"):
        learned_opt.import_weights("celo", tmp_path / "weights")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such file"):
        learned_opt.import_weights("celo", tmp_path / "nowhere")
