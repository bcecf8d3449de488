import numpy as np
import pytest

from tasks.datasets.markov_text import loss_floor, markov_chain, markov_text, sample_text, with_entropies


@pytest.fixture(scope="module")
def chain():
    return markov_chain()


def test_stationary_distribution_is_the_eigenvector(chain):
    """Of the matrix of pair transitions, by a dense eigenvalue solver on a smaller chain."""
    small = markov_chain(num_symbols=6, num_classes=3, num_successors=2, seed=5)
    pairs = np.zeros((6, 6, 6, 6))
    for a, b, c in np.ndindex(6, 6, 6):
        pairs[a, b, b, c] = small.transitions[a, b, c]
    values, vectors = np.linalg.eig(pairs.reshape(36, 36).T)
    largest = np.argmax(np.real(values))
    stationary = np.real(vectors[:, largest] / vectors[:, largest].sum()).reshape(6, 6)
    np.testing.assert_allclose(np.real(values[largest]), 1, rtol=1e-12)
    np.testing.assert_allclose(small.pair_probability, stationary, atol=1e-12)
    for d in (small, chain):
        np.testing.assert_allclose(d.transitions.sum(-1), 1, rtol=1e-12)
        np.testing.assert_allclose(d.pair_probability.sum(0), d.pair_probability.sum(1), atol=1e-12)


def test_entropy_rate_of_a_two_state_chain_in_closed_form():
    """Cover and Thomas, example 4.1: flips with probability p from 0 and q from 1."""
    p, q = 0.3, 0.1
    order_one = np.array([[1 - p, p], [q, 1 - q]])
    chain = with_entropies(np.broadcast_to(order_one, (2, 2, 2)))

    def entropy(x):
        return -x * np.log(x) - (1 - x) * np.log(1 - x)

    rate = (q * entropy(p) + p * entropy(q)) / (p + q)
    np.testing.assert_allclose([chain.bigram_entropy, chain.entropy_rate], rate, rtol=1e-10)
    np.testing.assert_allclose(chain.unigram_entropy, entropy(p / (p + q)), rtol=1e-10)


def test_more_context_tells_more(chain):
    weights = chain.pair_probability[..., None] * chain.transitions
    rate = -np.sum(weights * np.log(chain.transitions))
    np.testing.assert_allclose(chain.entropy_rate, rate, rtol=1e-10)
    assert np.log(32) > chain.unigram_entropy + 0.1 > chain.bigram_entropy + 0.4 > chain.entropy_rate + 0.7


def test_the_true_model_reaches_the_loss_floor_on_sampled_text(chain):
    data = markov_text(chain, length=9, num_rows=8192)
    tokens = data["train"]["tokens"]
    assert tokens.dtype == np.uint8 and tokens.shape == (8192, 9) and data["test"]["tokens"].shape == (1024, 9)
    pairs = chain.pair_probability
    second = -np.log((pairs / pairs.sum(1, keepdims=True))[tokens[:, 0], tokens[:, 1]])
    others = [-np.log(chain.transitions[tokens[:, t - 2], tokens[:, t - 1], tokens[:, t]]) for t in range(2, 9)]
    losses = np.mean([second, *others], axis=0)
    error = losses.std() / np.sqrt(len(losses))
    assert error < 0.01
    np.testing.assert_allclose(losses.mean(), loss_floor(chain, 9), atol=4 * error)


def test_rows_follow_the_chain():
    chain = markov_chain(num_symbols=3, num_classes=2, num_successors=1, smoothing=0.3)
    rows = sample_text(chain, 40_000, 4, np.random.default_rng(0))
    for start in (0, 1):
        counts = np.zeros((3, 3, 3))
        np.add.at(counts, tuple(rows[:, start : start + 3].T), 1)
        expected = chain.pair_probability[..., None] * chain.transitions
        standard_error = np.sqrt(expected * (1 - expected) / 40_000)
        assert (abs(counts / 40_000 - expected) < 5 * standard_error + 1e-9).all()


def test_seeds_determine_language_and_text(chain):
    np.testing.assert_array_equal(chain.transitions, markov_chain().transitions)
    assert (chain.transitions != markov_chain(seed=1).transitions).any()
    first, again, other = (markov_text(chain, 9, 64, seed)["train"]["tokens"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_symbols": 257}, "num_symbols=257"),
        ({"num_successors": 33}, "num_successors=33"),
        ({"smoothing": 0.0}, "smoothing=0.0"),
    ],
)
def test_bad_chains(arguments, message):
    with pytest.raises(ValueError, match=message):
        markov_chain(**arguments)


def test_bad_texts(chain):
    with pytest.raises(ValueError, match="length=1"):
        markov_text(chain, length=1)
    with pytest.raises(ValueError, match="num_rows=7"):
        markov_text(chain, num_rows=7)
