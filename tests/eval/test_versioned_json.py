"""Files that say which version of their format they have: every error is one line with the file and the remedy."""

import json

import pytest

from eval.versioned_json import JsonFormat

NOTES = JsonFormat("file of notes", 2, "python -m notes", indent=1, holds=("notes",))


def test_what_is_written_is_read_and_the_version_stands_first(tmp_path):
    path = tmp_path / "notes.json"
    NOTES.write(path, {"notes": [1, "two"], "by": None})
    assert path.read_text().splitlines()[1] == ' "format_version": 2,'
    assert NOTES.read(path) == {"notes": [1, "two"], "by": None}


def test_older_versions_are_read(tmp_path):
    path = tmp_path / "notes.json"
    path.write_text('{"format_version": 1, "notes": []}')
    assert NOTES.read(path) == {"notes": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or not JSON .*; python -m notes writes it anew"),
        (b"\xff\xfe", "damaged or not JSON"),
        (b"[]", "not a file of notes; python -m notes writes one"),
        (b'{"notes": []}', "not a file of notes"),
        (b'{"format_version": true, "notes": []}', "not a file of notes"),
        (b'{"format_version": 1, "curves": []}', "not a file of notes"),
        (b'{"format_version": 3, "notes": []}', "format version 3, this code reads a file of notes up to 2"),
    ],
)
def test_odd_files(tmp_path, content, message):
    path = tmp_path / "notes.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        NOTES.read(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.json", tmp_path / "none" / "none.json"):
        with pytest.raises(FileNotFoundError, match=r"none\.json: no such file of notes; python -m notes writes one"):
            NOTES.read(path)
    with pytest.raises(ValueError, match="is a folder; name the file of notes in it"):
        NOTES.read(tmp_path)


def test_a_number_that_json_does_not_have_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "notes.json"
    NOTES.write(path, {"notes": []})
    with pytest.raises(ValueError, match="not JSON compliant"):
        NOTES.write(path, {"notes": [float("nan")]})
    assert json.loads(path.read_text())["notes"] == []
