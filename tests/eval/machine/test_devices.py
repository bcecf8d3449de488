"""One CPU device per core where that can still be chosen, silence where it cannot."""

import os
import subprocess
import sys

import jax
import pytest

from eval.machine.devices import usable_cores, use_all_cores

COUNT = "import jax; from eval.machine.devices import use_all_cores; {0}use_all_cores(); print(len(jax.devices()))"


def devices_of_a_fresh_process(before="", flags=""):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-c", COUNT.format(before)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.parametrize(
    ("before", "flags", "expected"),
    [
        ("", "", max(2, usable_cores())),
        ("import eval.machine.devices; eval.machine.devices.usable_cores = lambda: 1; ", "", 2),
        ("jax.devices(); ", "", 1),
        ("jax.config.update('jax_num_cpu_devices', 3); ", "", 3),
        ("", "--xla_force_host_platform_device_count=5", 5),
    ],
)
def test_number_of_devices(before, flags, expected):
    assert devices_of_a_fresh_process(before, flags) == expected


def test_harmless_once_devices_are_in_use():
    number = len(jax.devices())
    use_all_cores()
    assert len(jax.devices()) == number
