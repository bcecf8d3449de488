import jax
import numpy as np
import pytest

from tasks.families.sequences.text_rnn import RNN, text_rnn
from tasks.networks.variants import Variants
from tests.tasks.generated_data import noisy, num_params, random_tokens


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_by_hand(inputs, w, u, b):
    size = u.shape[0]
    h = c = np.zeros(size)
    outputs = []
    for x in inputs:
        z = x @ w + h @ u + b
        i, f, g, o = (z[k * size : (k + 1) * size] for k in range(4))
        c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.array(outputs)


def gru_by_hand(inputs, w, u, b):
    size = u.shape[0]
    h = np.zeros(size)
    outputs = []
    for x in inputs:
        a = x @ w + b
        r = sigmoid(a[:size] + h @ u[:, :size])
        z = sigmoid(a[size : 2 * size] + h @ u[:, size : 2 * size])
        h = (1 - z) * np.tanh(a[2 * size :] + r * (h @ u[:, 2 * size :])) + z * h
        outputs.append(h)
    return np.array(outputs)


@pytest.mark.parametrize("cell, by_hand", [("lstm", lstm_by_hand), ("gru", gru_by_hand)])
def test_logits_are_the_written_out_formula(cell, by_hand):
    model = RNN(5, 3, 2, cell)
    tokens = random_tokens(6, 5)["train"]["tokens"][:2].astype(np.int32)
    params = noisy(jax.jit(model.init)(jax.random.key(0), tokens)["params"], scale=0.5)
    logits = np.asarray(jax.jit(model.apply)({"params": params}, tokens))
    wide = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    for row in range(2):
        h = wide["TokenEmbedding_0"]["embedding"][tokens[row]]
        for layer in range(2):
            own = wide[f"input_{layer}"]
            h = by_hand(h, own["kernel"], wide[f"recurrent_{layer}"], own["bias"])
        np.testing.assert_allclose(logits[row], h @ wide["head"]["kernel"] + wide["head"]["bias"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell, num_gates", [("lstm", 4), ("gru", 3)])
def test_number_of_parameters(cell, num_gates):
    family = text_rnn(random_tokens(5, 9), 9, cell, 32, 2)
    assert num_params(family) == 9 * 32 + 2 * num_gates * 32 * (32 + 32 + 1) + 33 * 9


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"cell": "elman"}, "cell='elman'"),
        ({"depth": 0}, "depth=0"),
        ({"variants": Variants(activations=("relu",))}, "activations="),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        text_rnn(random_tokens(5, 9), 9, **arguments)
