"""Colours go by what a contender is, and hold for any number of them."""

from eval.report.line_styles import line_styles
from tests.eval.made_up import contender

CURVE = [[2.0, 1.0]]


def test_any_number_of_baselines_and_learned_optimizers_can_be_told_apart():
    many = [contender(f"b{i}", CURVE) for i in range(30)]
    many += [contender(f"l{i}", CURVE, kind="learned") for i in range(15)]
    styles = line_styles(many)
    looks = {(style.colour, style.dashes) for style in styles.values()}
    assert len(looks) == len(many)
    assert styles["l0"].width > styles["b0"].width


def test_anchors_and_one_setting_rows_wear_the_colour_of_what_they_belong_to():
    styles = line_styles(
        [
            contender("adam", CURVE),
            contender("adam_one_setting", CURVE, details={"one_setting": {}}),
            contender("mine", CURVE, kind="learned"),
            contender("mine_anchor", CURVE, kind="anchor", details={"anchor_of": ["mine"]}),
            contender("stray_anchor", CURVE, kind="anchor", details={"anchor_of": ["gone"]}),
        ]
    )
    assert styles["adam_one_setting"].colour == styles["adam"].colour
    assert styles["mine_anchor"].colour == styles["mine"].colour and styles["mine_anchor"].dashes == "--"
    assert styles["adam_one_setting"].dashes != styles["adam"].dashes
    assert styles["stray_anchor"].colour != styles["mine"].colour
