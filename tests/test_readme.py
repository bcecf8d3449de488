"""The Python of every README runs: the blocks of a file share a namespace and run in order, in an empty folder."""

import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).resolve().parents[1]
READMES = [path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *sorted(ROOT.glob("[a-z]*/README.md")))]


@pytest.fixture(autouse=True)
def as_users_have_it():
    # What the tests are strict about, optax and the users of a README are not.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def python_blocks(text: str) -> list[tuple[int, str]]:
    """(line of the first statement, code) of the ```python blocks."""
    blocks: list[tuple[int, str]] = []
    fence, start, code = "", 0, []
    for number, line in enumerate(text.splitlines(), start=1):
        if fence:
            if line.strip() == "```":
                if fence == "python":
                    blocks.append((start, "\n".join(code)))
                fence = ""
            code.append(line)
        elif opening := re.match(r"\s*```(\S*)", line):
            fence, start, code = opening[1] or "text", number + 1, []
    return blocks


@pytest.mark.parametrize("name", READMES)
def test_python_of_the_readme_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    for line, code in python_blocks((ROOT / name).read_text()):
        exec(compile("\n" * (line - 1) + code, name, "exec"), namespace)


def test_the_readmes_show_python():
    assert [name for name in READMES if python_blocks((ROOT / name).read_text())] == [
        "README.md",
        "eval/README.md",
        "learned_opt/README.md",
        "meta_train/README.md",
        "tasks/README.md",
    ]


@pytest.mark.parametrize("name", READMES)
def test_links_between_files_lead_somewhere(name):
    text = (ROOT / name).read_text()
    for target, heading in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", text):
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), target
        assert not heading or heading in headings(path.read_text()), f"{target}#{heading}"


def headings(text: str) -> set[str]:
    """Headings as GitHub's links name them."""
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_headings_are_found():
    assert headings("# A: b, `c_d`\ntext\n### Your own data\n") == {"a-b-c_d", "your-own-data"}


def test_blocks_are_found():
    text = "# A\n```python\nx = 1\n```\n## B\n```\nno\n```\n```python\ny = 2\nz = 3\n```\n"
    assert python_blocks(text) == [(3, "x = 1"), (10, "y = 2\nz = 3")]
