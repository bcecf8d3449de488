"""Plain lines where standard error is no terminal: one per finished stage."""

from eval.machine.progress import show_progress


def test_lines(capsys):
    with show_progress() as progress:
        for done in (0, 1, 2):
            progress("tuning", done, 2)
    assert capsys.readouterr().err.startswith("tuning: 2/2 in ")
