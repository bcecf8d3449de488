"""Task families by reference: what is built, with which data, and what mistakes say."""

import importlib
import inspect
import pkgutil

import jax
import numpy as np
import pytest

import tasks.families.images
import tasks.families.sequences
from eval.task_families import IMAGE_FAMILIES, TEXT_FAMILIES, make_family, written_out
from tasks.check import check_form
from tests.eval.toy import toy_family


def toy(shift=0):
    del shift
    return toy_family()


def a_number():
    return 3


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    """my_letters: 6x6 images of the labels 0 to 4; my_text."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, number in (("train", 50), ("test", 20)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (number, 6, 6), np.uint8)
        arrays[f"y_{split}"] = np.arange(number) % 5
    np.savez(tmp_path / "my_letters.npz", **arrays)
    (tmp_path / "my_text.txt").write_text("abcd" * 2000)
    monkeypatch.setenv("LEARNED_OPT_DATA", str(tmp_path))


def shapes(family):
    key = jax.random.key(0)
    params = jax.eval_shape(lambda: family.task(family.sample(key), family.data).init(key))
    return sorted(leaf.shape for leaf in jax.tree.leaves(params) if len(leaf.shape) > 1)


@pytest.mark.parametrize(
    ("reference", "name", "expected"),
    [
        ("my_letters:mlp8", "my_letters_mlp8", [(8, 5), (36, 8)]),
        ("my_letters:mlp8x4,num_classes=7", "my_letters_mlp8x4", [(4, 7), (8, 4), (36, 8)]),
        ("my_letters:mlp8,image_size=3,name=small", "small", [(8, 5), (9, 8)]),
        ("image_mlp,dataset=my_letters,hidden_sizes=(3,)", "my_letters_image_mlp", [(3, 5), (36, 3)]),
        ("my_letters:cnn2", "my_letters_cnn2", None),
        ("my_letters:vit8", "my_letters_vit8", None),
        ("my_letters:autoencoder4", "my_letters_autoencoder4", [(4, 36), (36, 4)]),
        ("my_text:gru4,row_length=9", "my_text_gru4", None),
        ("text_transformer,dataset=my_text,hidden_size=8", "my_text_text_transformer", None),
        ("block_images,dataset=my_letters", "my_letters_block_images", [(32, 5), (72, 32)]),
        ("ghost_norm_mlp,dataset=my_letters,hidden_sizes=(4,)", "my_letters_ghost_norm_mlp", [(4, 5), (36, 4)]),
        ("width_mlp,dataset=my_letters,width=8,base_width=4", "my_letters_width_mlp", [(8, 5), (8, 8), (36, 8)]),
        ("barlow_twins,dataset=my_letters,hidden=4,size=3", "my_letters_barlow_twins", [(4, 3), (36, 4)]),
        ("contrastive,dataset=my_letters,hidden_sizes=(4,),size=3", "my_letters_contrastive", [(4, 3), (36, 4)]),
        ("sparse_rnn,dataset=my_text,hidden_size=4", "my_text_sparse_rnn", None),
        ("fmnist8_mlp32", "fmnist8_mlp32", [(32, 10), (64, 32)]),
        (f"{__file__}:toy", "toy", [(4, 3)]),
    ],
)
def test_what_a_reference_builds(reference, name, expected):
    family = make_family(reference)
    check_form(family)
    assert family.name == name
    if expected is not None:
        assert shapes(family) == expected
    if "my_text" in reference:
        assert family.data["train"]["tokens"].max() == 3


def test_whatever_takes_data_can_be_given_any():
    """Every module of these folders that holds a constructor of its own name, with data as its first argument."""
    found = {}
    for folder, first in ((tasks.families.images, ["data"]), (tasks.families.sequences, ["data", "vocab_size"])):
        found[folder] = set()
        for module in pkgutil.iter_modules(folder.__path__):
            make = getattr(importlib.import_module(f"{folder.__name__}.{module.name}"), module.name, None)
            if make is not None and list(inspect.signature(make).parameters)[: len(first)] == first:
                found[folder].add(make)
    assert found == {tasks.families.images: set(IMAGE_FAMILIES), tasks.families.sequences: set(TEXT_FAMILIES)}


def test_a_shorthand_is_a_constructor_written_out():
    assert written_out("my_letters:mlp128x64") == (
        "image_mlp,dataset='my_letters',hidden_sizes=(128,64,),name=my_letters_mlp128x64"
    )
    assert written_out("my.py:mlp") == "my.py:mlp" and written_out("my_package:letters") == "my_package:letters"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("my_leters:mlp8", "dataset 'my_leters' not found"),
        ("my_letters:mlp8,widths=3", "has no argument 'widths'"),
        ("my_letters:gru4", "dataset 'my_letters' not found"),
        ("my_text:gru4x4", "gru takes one size, e.g. gru4"),
        ("image_mlp,hidden_sizes=(3,)", "lacks dataset: add ,dataset=VALUE"),
        ("my_letters:mpl8", "there is no network 'mpl8', did you mean 'mlp'? use one of mlp, cnn,"),
        ("image_mpl", "'image_mpl' is unknown; did you mean 'image_mlp'"),
        (f"{__file__}:a_number", "returned int: return a tasks.base.TaskFamily"),
        ("image_mlp,dataset=my_letters,hidden_sizes=(0,)", "hidden_sizes="),
    ],
)
def test_mistakes(reference, message):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        make_family(reference)
    assert message in str(caught.value) and "\n" not in str(caught.value)
