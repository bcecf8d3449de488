"""`python -m tests.meta_train.device_hash DEVICES JSON` prints the hash of a tiny run's last state on so many
devices, with the fields of the JSON object changed."""

import dataclasses
import hashlib
import json
import sys

import jax

from meta_train.config import MetaTrainConfig, to_json
from meta_train.config_checks import validate
from meta_train.runs.state_arrays import to_arrays
from meta_train.trainer import build_trainer

TINY = MetaTrainConfig(
    optimizer="lopt_a,hidden_size=4,nominal=momentum",
    num_workers=4,
    num_local_steps=2,
    batch_size=4,
    local_optimizer="adam,learning_rate=0.01",
    num_tasks=16,
    truncation_length=2,
    min_unroll_length=2,
    max_unroll_length=6,
    meta_steps=3,
    meta_loss_split="outer_valid",
)


def run_hash(config: MetaTrainConfig) -> tuple[str, int]:
    """Hash of names and bytes of everything after the run's meta-steps, and the devices its particles are on."""
    validate(config)
    trainer = build_trainer(config)
    state = trainer.init(jax.random.key(config.seed))
    for _ in range(config.meta_steps):
        state, _ = trainer.step(state)
    devices = {d for leaf in jax.tree.leaves(state.particles) for d in leaf.devices()}
    arrays = to_arrays(state)
    content = b"".join(name.encode() + arrays[name].tobytes() for name in sorted(arrays))
    return hashlib.sha256(content).hexdigest(), len(devices)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
    changes = json.loads(sys.argv[2])
    assert changes.keys() <= to_json(TINY).keys()
    print(json.dumps(run_hash(dataclasses.replace(TINY, **changes))))
