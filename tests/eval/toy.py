"""The protocol of a comparison that takes milliseconds, of the task in tests/toy_images.py."""

from eval.protocol import EvalProtocol
from tests.toy_images import toy_data as toy_data
from tests.toy_images import toy_family as toy_family

TOY = EvalProtocol(
    task="toy",
    num_rounds=6,
    num_workers=2,
    num_local_steps=2,
    batch_size=4,
    num_seeds=3,
    num_curve_examples=64,
    max_extensions=1,
)
