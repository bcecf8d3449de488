import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.batches import sample_rows
from tasks.datasets.resident_window import resident_window, window_rows

NUM_EXAMPLES = 23
ROW_BYTES = 4 + 4


def dataset():
    """Rows whose leaves both hold the number of the row, 8 bytes each."""
    rows = np.arange(NUM_EXAMPLES)
    train = {"image": np.repeat(rows.astype(np.uint8), 4).reshape(-1, 2, 2, 1), "label": rows.astype(np.int32)}
    return {"train": train, "test": {"image": train["image"][:3], "label": train["label"][:3]}}


def windows(count, **arguments):
    window = resident_window(dataset(), **{"max_bytes": 5 * ROW_BYTES + 7, **arguments})
    return window, [window.at(step)["train"] for step in range(count)]


def test_every_row_is_resident_once_in_a_cycle_and_the_window_is_as_large_as_allowed():
    window, seen = windows(10)
    assert (window.num_rows, window.num_windows) == (5, 5)
    for cycle in (seen[:5], seen[5:]):
        counts = np.bincount(np.concatenate([part["label"] for part in cycle]), minlength=NUM_EXAMPLES)
        # 25 places for 23 rows: two are filled up with rows seen before.
        assert sorted(counts) == [1] * 21 + [2] * 2
    assert any((a["label"] != b["label"]).any() for a, b in zip(seen[:5], seen[5:], strict=True))
    for part in seen:
        assert isinstance(part["image"], jax.Array) and sum(leaf.nbytes for leaf in part.values()) <= 5 * ROW_BYTES + 7
        np.testing.assert_array_equal(part["image"][:, 0, 0, 0], part["label"])


def test_rows_depend_on_seed_and_meta_step_alone():
    """A resumed run, which starts in the middle, sees the same rows as one that never stopped."""
    _, seen = windows(30, swap_every=3)
    resumed, _ = windows(0, swap_every=3)
    for step in (17, 4, 29, 18):
        for name, leaf in resumed.at(step)["train"].items():
            np.testing.assert_array_equal(leaf, seen[step][name])
    _, other = windows(30, swap_every=3, seed=1)
    assert any((a["label"] != b["label"]).any() for a, b in zip(seen, other, strict=True))


def test_swaps_only_every_so_many_meta_steps():
    window, seen = windows(12, swap_every=4)
    changed = [bool((a["label"] != b["label"]).any()) for a, b in zip(seen, seen[1:], strict=False)]
    assert changed == [step % 4 == 0 for step in range(1, 12)]
    assert window.at(8) is window.at(11)


def test_a_dataset_that_fits_stays_whole():
    window, seen = windows(3, max_bytes=NUM_EXAMPLES * ROW_BYTES)
    assert window.num_windows == 1 and window.at(0) is window.at(1000)
    np.testing.assert_array_equal(seen[0]["label"], np.arange(NUM_EXAMPLES))
    np.testing.assert_array_equal(window.at(0)["test"]["label"], [0, 1, 2])


def test_training_over_swaps_compiles_once_and_learns_from_every_row():
    """Fits the mean of the labels; one window alone would give the mean of its five rows."""
    data = {"train": {"label": np.arange(40, dtype=np.int32)}}
    window = resident_window(data, max_bytes=5 * 4, swap_every=2)
    traces = []

    @jax.jit
    def meta_step(total, key, data):
        traces.append(None)
        labels = sample_rows(key, data["train"], (64,))["label"]
        return total + jnp.mean(labels.astype(jnp.float32)), labels

    total, seen = jnp.float32(0), set()
    for step in range(2 * window.num_windows):
        total, labels = meta_step(total, jax.random.fold_in(jax.random.key(0), step), window.at(step))
        seen |= set(np.asarray(labels).tolist())
    assert len(traces) == 1
    assert meta_step._cache_size() == 1  # pyright: ignore[reportAttributeAccessIssue]
    assert seen == set(range(40))
    # Standard error of the mean over 16 batches of 64: 11.5 / 32 = 0.36.
    assert abs(float(total) / 16 - 19.5) < 5 * 0.36


def test_the_last_window_of_a_cycle_is_filled_from_the_first():
    first, last = window_rows(7, 4, 0, seed=0), window_rows(7, 4, 1, seed=0)
    assert len(set(first) | set(last)) == 7 and len(set(first) & set(last)) == 1
    assert len(set(last)) == 4 and (np.diff(last) > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_bytes": ROW_BYTES - 1}, "max_bytes=7: a row of the training set has 8 bytes"),
        ({"swap_every": 0}, "swap_every=0: use at least 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        windows(0, **arguments)
