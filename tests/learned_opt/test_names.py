"""References: every form, and a line that names the mistake for every wrong one."""

import functools

import pytest

from learned_opt.names import hint, parse, resolve


def make(hidden_size=32, sizes=(1,), name="none", rate=0.5, flag=False, inner=None):
    return hidden_size, sizes, name, rate, flag, inner


TABLE = {"make": make, "other": lambda: None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("make", (32, (1,), "none", 0.5, False, None)),
        ("make,hidden_size=8", (8, (1,), "none", 0.5, False, None)),
        ("make, sizes=(4, 5), name=momentum , rate=1e-3", (32, (4, 5), "momentum", 1e-3, False, None)),
        ("make,flag=true,name='a,b'", (32, (1,), "a,b", 0.5, True, None)),
        ("make,inner={'a': [1, 2]}", (32, (1,), "none", 0.5, False, {"a": [1, 2]})),
    ],
)
def test_names_with_arguments(text, expected):
    assert resolve(text, TABLE, "thing")() == expected


def test_functions_of_modules_and_files(tmp_path, monkeypatch):
    (tmp_path / "beside.py").write_text("SIZE = 3\n")
    (tmp_path / "mine.py").write_text("import beside\ndef make(size=1):\n    return size + beside.SIZE\n")
    assert resolve(f"{tmp_path}/mine.py:make,size=2", {}, "thing")() == 5
    monkeypatch.chdir(tmp_path)
    assert resolve("mine.py:make", {}, "thing") is resolve(f"{tmp_path}/mine.py:make", {}, "thing")
    partial = resolve("functools:partial", {}, "thing")
    assert partial is functools.partial


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mak", r"thing: 'mak' is unknown; did you mean 'make'\? use one of make, other, or module:function"),
        ("make,hiden_size=8", r"thing: make has no argument 'hiden_size'; did you mean 'hidden_size'\?"),
        ("make,8", r"thing: '8' in 'make,8' is not field=value"),
        ("make,rate=1,rate=2", "thing: rate occurs twice"),
        (",rate=1", "does not begin with a name"),
        ("no_such_module:make", "thing: 'no_such_module:make': .*ModuleNotFoundError"),
        ("missing.py:make", "there is no file 'missing.py'"),
        ("functools:partia", r"functools has no 'partia'; did you mean 'partial'\?"),
        ("functools:WRAPPER_ASSIGNMENTS", "is a tuple; name a function"),
        (":make", "name it as module:function"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        resolve(text, TABLE, "thing")
    assert "\n" not in str(caught.value)


def test_an_error_in_the_file_is_quoted_with_its_line(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("x = 1\ny = x / 0\n")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"broken\.py, line 2: ZeroDivisionError"):
            resolve(f"{path}:make", {}, "thing")
    path.write_text("def make(:\n")
    with pytest.raises(ValueError, match=r"broken\.py, line 1: SyntaxError"):
        resolve(f"{path}:make", {}, "thing")


def test_the_parts_of_a_reference():
    assert parse("a.py:f,x=1").target == "a.py:f"
    assert parse("name,x=[1,2],y=none").arguments == {"x": [1, 2], "y": None}


def test_a_long_list_is_left_out_where_a_name_is_near():
    many = [f"family_{index}" for index in range(30)]
    assert hint("famly_3", many) == "did you mean 'family_3'? use it, or one of 29 others"
    assert hint("xyz", many).endswith("family_28, family_29")
