"""The README's Python runs: the blocks of one section share a namespace and run in order, in an
empty folder."""

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def python_sections(text: str) -> dict[str, list[tuple[int, str]]]:
    """{section title: [(line of the first statement, code)]} of the ```python blocks."""
    sections: dict[str, list[tuple[int, str]]] = {}
    title, fence, start, code = "top", "", 0, []
    for number, line in enumerate(text.splitlines(), start=1):
        if fence:
            if line.strip() == "```":
                if fence == "python":
                    sections.setdefault(title, []).append((start, "\n".join(code)))
                fence = ""
            code.append(line)
        elif opening := re.match(r"\s*```(\S*)", line):
            fence, start, code = opening[1] or "text", number + 1, []
        elif heading := re.match(r"#{1,2} (.*)", line):
            title = heading[1]
    return sections


SECTIONS = python_sections(README.read_text()) if README.exists() else {}


@pytest.mark.parametrize("title", SECTIONS)
def test_python_of_the_readme_runs(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    for line, code in SECTIONS[title]:
        exec(compile("\n" * (line - 1) + code, str(README), "exec"), namespace)


def test_readme_has_python():
    assert SECTIONS, f"{README} is missing or shows no ```python block"


def test_blocks_are_found_by_section():
    text = "# A\n```python\nx = 1\n```\n## B\n```\nno\n```\n```python\ny = 2\nz = 3\n```\n"
    assert python_sections(text) == {"A": [(3, "x = 1")], "B": [(10, "y = 2\nz = 3")]}
