import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.sequences.waves_rnn import waves, waves_rnn
from tests.tasks.generated_data import noisy, num_params


def test_loss_is_the_slow_loop():
    family = waves_rnn(5, num_waves=2, length=7, num_rows=4)
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    params = noisy(jax.jit(task.init)(jax.random.key(1)))
    batch = family.eval_batch(family.data, "test")
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    errors = []
    for phase in np.asarray(batch["phase"], np.float64):
        x = [sum(np.sin(w * t + q) for w, q in zip(config["frequencies"], phase, strict=True)) for t in range(8)]
        h = np.zeros(5)
        for t in range(7):
            h = np.tanh(x[t] * p["input"][0] + h @ p["recurrent"] + p["bias"])
            errors.append((h @ p["output"][:, 0] + p["offset"][0] - x[t + 1]) ** 2)
    np.testing.assert_allclose(jax.jit(task.loss)(params, jax.random.key(0), batch), np.mean(errors), rtol=1e-4)
    assert num_params(family) == 5 + 25 + 5 + 5 + 1


def test_waves_obey_their_recurrence_and_have_unit_power():
    """x_{t+1} = 2 cos(w) x_t - x_{t-1} for a single wave; mean square 1 over phases and times, the guess of zero."""
    frequency = np.asarray([0.7], np.float32)
    phase = np.linspace(0, 2 * np.pi, 64, endpoint=False, dtype=np.float32)[:, None]
    x = np.asarray(waves(jnp.asarray(frequency), jnp.asarray(phase), 20))
    np.testing.assert_allclose(x[:, 2:], 2 * np.cos(0.7) * x[:, 1:-1] - x[:, :-2], atol=1e-5)
    np.testing.assert_allclose(np.mean(x**2), waves_rnn(num_rows=2).uninformed_loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"), [({"hidden_size": 0}, "hidden_size=0"), ({"frequencies": (1.0, 4.0)}, "frequencies=")]
)
def test_bad_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        waves_rnn(**arguments)
