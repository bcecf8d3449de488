"""What a user gets from `pip install`: the wheel holds the library alone and works without the
checkout."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TRAIN = """
import sys
import jax, jax.numpy as jnp, optax
import learned_opt

assert learned_opt.__file__.startswith(sys.prefix), learned_opt.__file__
loss = lambda params: jnp.mean((params["w"] - 1.0) ** 2)
for name, lopt in [("lagg_a", learned_opt.lagg_a(num_workers=2)),
                   ("adafac_mlp_lopt", learned_opt.adafac_mlp_lopt())]:
    learned_opt.save(f"{name}.safetensors", lopt, lopt.init(jax.random.key(0)))
    tx = learned_opt.load(f"{name}.safetensors")
    params = {"w": jnp.arange(6.0).reshape(2, 3)}
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        workers = jax.tree.map(lambda g: jnp.stack([0.5 * g, 1.5 * g]), grads)
        updates, state = tx.update(grads, state, params, worker_updates=workers, value=value)
        return optax.apply_updates(params, updates), state

    for _ in range(10):
        params, state = step(params, state)
    assert jnp.isfinite(params["w"]).all() and (params["w"] != jnp.arange(6.0).reshape(2, 3)).any()
print("trained")
"""


def run(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    # An inherited PYTHONPATH would let the checkout in.
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run([str(part) for part in command], cwd=cwd, env=clean | env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    done = run(*build, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_wheel_holds_the_library_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    top_level = {name.split("/")[0] for name in names}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {"learned_opt"}
    in_checkout = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", "*.typed", "pretrained/**/*")
        for path in (ROOT / "learned_opt").rglob(pattern)
        if path.is_file() and path.suffix != ".pyc"
    }
    assert in_checkout <= set(names)


def test_wheel_trains_in_a_bare_environment(wheel, tmp_path):
    created = run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=tmp_path)
    assert created.returncode == 0, created.stderr
    python = tmp_path / "env" / "bin" / "python"
    # A pip in the environment, and every module of jax and its needs compiled, would take longer than all the rest.
    into = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    installed = run(*into, "install", "--quiet", "--no-compile", wheel, cwd=tmp_path)
    offline = re.search("NewConnectionError|NameResolutionError", installed.stderr)
    if installed.returncode and offline and not os.environ.get("CI"):
        pytest.skip("no package index within reach")
    assert installed.returncode == 0, installed.stderr
    (tmp_path / "train.py").write_text(TRAIN)
    trained = run(python, "train.py", cwd=tmp_path, JAX_PLATFORMS="cpu")
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout == "trained\n"
