import jax
import numpy as np
import pytest

from tasks.families.sequences.text_transformer import TransformerLM, text_transformer
from tests.tasks.generated_data import noisy, num_params, random_tokens


def test_a_future_token_does_not_change_earlier_logits():
    model = TransformerLM(7, 8, 2, 2, 2, jax.nn.gelu)
    tokens = random_tokens(6, 7)["train"]["tokens"].astype(np.int32)
    params = noisy(jax.jit(model.init)(jax.random.key(0), tokens)["params"])
    apply = jax.jit(model.apply)
    logits = apply({"params": params}, tokens)
    for position in range(6):
        changed = tokens.copy()
        changed[:, position] = (changed[:, position] + 1) % 7
        change = np.abs(np.asarray(apply({"params": params}, changed) - logits)).max((0, 2))
        assert (change[:position] == 0).all() and (change[position:] > 0).all()


def test_starts_near_the_loss_of_equal_probabilities():
    family = text_transformer(random_tokens(9, 50), 50)
    task = family.task({}, family.data)
    params = jax.jit(task.init)(jax.random.key(0))
    loss = jax.jit(task.loss)(params, jax.random.key(0), family.eval_batch(family.data, "train"))
    np.testing.assert_allclose(loss, np.log(50), rtol=0.02)


@pytest.mark.parametrize("vocab, length, hidden, depth, ratio", [(65, 33, 32, 2, 4), (10, 5, 8, 1, 2)])
def test_number_of_parameters(vocab, length, hidden, depth, ratio):
    family = text_transformer(random_tokens(length, vocab), vocab, hidden, depth, 4, ratio)
    attention = 4 * hidden**2 + hidden
    mlp = 2 * ratio * hidden**2 + ratio * hidden + hidden
    embedding = vocab * hidden + (length - 1) * hidden
    expected = embedding + depth * (attention + mlp + 4 * hidden) + 2 * hidden + hidden * vocab
    assert num_params(family) == expected


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_heads=3"):
        text_transformer(random_tokens(5, 9), 9, num_heads=3)
