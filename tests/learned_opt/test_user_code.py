"""Which lines of an error are a user's own."""

from pathlib import Path

import numpy as np
import pytest

from learned_opt.names import resolve
from learned_opt.user_code import failure_in_user_code


def test_installed_packages_are_left_out_and_causes_looked_at(tmp_path):
    (tmp_path / "nets.py").write_text("def net(x):\n    return x.reshape(7)\n")
    (tmp_path / "mine.py").write_text("import jax\nimport nets\n\n\ndef mine(x):\n    return jax.jit(nets.net)(x)\n")
    mine = resolve(f"{tmp_path}/mine.py:mine", {}, "mine")
    with pytest.raises(TypeError) as caught:
        mine(np.ones(3, np.float32))
    outer = RuntimeError("a meta-step failed")
    outer.__cause__ = caught.value
    failure = failure_in_user_code(outer)
    assert failure is not None and failure.error is caught.value
    assert failure.place == f"{tmp_path}/nets.py, line 2, in net"
    assert [Path(frame.filename).name for frame in failure.frames] == ["mine.py", "nets.py"]


@pytest.mark.parametrize("call", [lambda: resolve("zzz", {}, "mine"), resolve("optax:sgd", {}, "mine")])
def test_an_error_of_the_project_or_of_an_installed_package_is_none(call):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert failure_in_user_code(caught.value) is None
