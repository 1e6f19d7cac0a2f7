import cv2
import numpy as np
import pytest
import torch

from dynamic_atss.errors import UserError
from dynamic_atss.types import Detections
from dynamic_atss.viz.captions import Canvas, caption_boxes
from dynamic_atss.viz.draw import (
    MAX_SIDE,
    class_color,
    contact_sheet,
    detections_beside_truth,
    draw_boxes,
    write_image,
)

GREY = torch.full((3, 480, 640), 128, dtype=torch.uint8)


def has_color(image, color):
    return (image == torch.tensor(color, dtype=torch.uint8)[:, None, None]).all(0)


def test_the_frame_lies_on_the_box_and_the_source_stays_as_it_was():
    source = GREY.clone()
    drawn = draw_boxes(source, torch.tensor([[100.0, 200, 300, 400]]), ["cell"])
    rows, columns = has_color(drawn, class_color(0)).nonzero().T
    assert columns.min() <= 100 <= columns.min() + 2 and columns.max() - 2 <= 300 <= columns.max()
    assert rows.max() - 2 <= 400 <= rows.max()
    assert torch.equal(drawn[:, 220:380, 120:280], source[:, 220:380, 120:280])
    assert torch.equal(source, GREY) and drawn.dtype == torch.uint8


def test_small_images_grow_and_their_boxes_with_them():
    drawn = draw_boxes(GREY[:, :60, :80], torch.tensor([[10.0, 20, 40, 50]]), ["a"], short_side=480)
    assert drawn.shape == (3, 480, 640)
    _, columns = has_color(drawn, class_color(0)).nonzero().T
    assert abs(int(columns.max()) - 320) <= 3


@pytest.mark.parametrize(
    "box", [[100.0, 200, 300, 400], [-50.0, -50, 20, 30], [630, 470, 700, 700]]
)
def test_a_dashed_frame_is_a_part_of_the_solid_one(box):
    boxes = torch.tensor([box])
    solid, dashed = (
        draw_boxes(GREY, boxes, [""], colors=[(250, 200, 40)], dashed=[is_dashed])
        for is_dashed in (False, True)
    )
    changed, of_dashed = ((image != GREY).any(0) for image in (solid, dashed))
    assert 0.35 < of_dashed.sum() / changed.sum() < 0.65
    assert torch.equal(dashed[:, of_dashed], solid[:, of_dashed])
    assert not (of_dashed & ~changed).any()


def test_an_empty_label_has_no_caption():
    boxes = torch.tensor([[100.0, 200, 300, 400]])
    plain, named = (draw_boxes(GREY, boxes, [label], colors=[(9, 9, 250)]) for label in ("", "a"))
    above = has_color(plain, (9, 9, 250))[:195].sum(), has_color(named, (9, 9, 250))[:195].sum()
    assert above[0] == 0 < above[1]


def test_many_small_boxes_stay_visible_under_a_legend():
    """Captions would cover the image, and thick frames would cover the boxes."""
    corner = torch.cartesian_prod(torch.arange(40.0, 620, 24), torch.arange(60.0, 460, 24))
    boxes = torch.cat([corner, corner + 12], 1)
    labels = ["tiny"] * (len(boxes) - 1) + ["other"]
    drawn = draw_boxes(GREY, boxes, labels)
    inside = drawn[:, 60:460, 40:620]
    untouched = (inside == 128).all(0).float().mean()
    assert untouched > 0.7
    for place, color in enumerate((class_color(0), class_color(1))):  # a line of each label
        row = has_color(drawn, color)[18 * place : 18 * (place + 1), :100]
        assert row.float().mean() > 0.2


def test_few_boxes_keep_their_captions():
    boxes = torch.tensor([[100.0, 200, 300, 400], [350, 100, 500, 300]])
    drawn = draw_boxes(GREY, boxes, ["one", "two"], torch.tensor([0.5, 0.75]))
    assert not has_color(drawn, class_color(0))[:20, :20].any()
    assert has_color(drawn, class_color(0))[180:199, 95:150].float().mean() > 0.2


def test_odd_boxes_are_drawn_or_passed_over_but_never_fatal():
    nan, inf = float("nan"), float("inf")
    odd = [[nan, 0, 5, 5], [-50, -50, 9999, 9999], [30, 30, 30, 30], [9, 9, 3, 3], [0, 0, inf, 9]]
    assert draw_boxes(GREY, torch.tensor(odd), ["x"] * 5, torch.rand(5)).shape == GREY.shape
    assert torch.equal(draw_boxes(GREY, torch.zeros(0, 4), []), GREY)


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="2 boxes"):
        draw_boxes(GREY, torch.zeros(2, 4), ["a"])
    with pytest.raises(ValueError, match="uint8"):
        draw_boxes(GREY.float(), torch.zeros(0, 4), [])


def test_classes_differ_in_colour():
    colors = np.array([class_color(i) for i in range(80)], float)
    gaps = np.linalg.norm(colors[:, None] - colors[None], axis=2) + 999 * np.eye(80)
    assert gaps.min() > 8 and gaps[:8, :8].min() > 60 and gaps[0, 34] > 60


@pytest.mark.parametrize(
    "box", [(0, 0, 50, 50), (620, 470, 639, 479), (-40, -40, 700, 600), (600, 0, 700, 30)]
)
def test_captions_stay_inside_the_image(box):
    canvas = Canvas(np.zeros((480, 640, 3), np.uint8), 14)
    (caption,) = caption_boxes(
        canvas, [("a long class name 0.87", np.array(box, float), (9, 9, 9))]
    )
    left, top, right, bottom = caption.where
    assert 0 <= left < right <= 640 and 0 <= top < bottom <= 480


def test_captions_of_boxes_on_one_spot_do_not_cover_each_other():
    canvas = Canvas(np.zeros((480, 640, 3), np.uint8), 14)
    boxes = [("cell", np.array([200.0, 200, 400, 400]), (9, 9, 9))] * 4
    places = [caption.where for caption in caption_boxes(canvas, boxes)]
    for i, a in enumerate(places):
        for b in places[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_panels_show_truth_left_and_confident_detections_right():
    detections = Detections(
        torch.tensor([[300.0, 100, 400, 300], [10, 300, 90, 400]]),
        torch.tensor([0.9, 0.1]),
        torch.tensor([1, 2]),
    )
    panels = detections_beside_truth(
        GREY, torch.tensor([[50.0, 100, 200, 300]]), torch.tensor([0]), detections, "abc"
    )
    left, right = panels[:, :, :640], panels[:, :, -640:]
    assert has_color(left, class_color(0)).any() and not has_color(left, class_color(1)).any()
    assert has_color(right, class_color(1)).any() and not has_color(right, class_color(2)).any()
    assert (left[:, 0] == 255).all()  # the title's bar


def test_contact_sheet_holds_every_image_completely():
    images = [
        torch.full((3, h, w), v, dtype=torch.uint8) for h, w, v in ((4, 6, 1), (8, 2, 2), (3, 3, 3))
    ]
    sheet = contact_sheet(images, columns=2, gap=1)
    assert sheet.shape == (3, 8 + 1 + 8, 6 + 1 + 6)
    assert [int((sheet == v).sum()) for v in (1, 2, 3)] == [72, 48, 27]
    with pytest.raises(ValueError, match="sheet"):
        contact_sheet([], 2)


def test_written_images_come_back_in_the_same_colours(tmp_path):
    image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    write_image(tmp_path / "new" / "a.png", image)
    back = cv2.cvtColor(cv2.imread(str(tmp_path / "new" / "a.png")), cv2.COLOR_BGR2RGB)
    assert np.array_equal(back, image.permute(1, 2, 0).numpy())
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]
    with pytest.raises(UserError, match="extension"):
        write_image(tmp_path / "a.nonsense", image)


def test_an_image_that_its_format_cannot_hold(tmp_path):
    for ending, side in (("jpg", 65_500), ("webp", 16_383)):
        flat = torch.zeros(3, 1, side + 1, dtype=torch.uint8)
        with pytest.raises(UserError, match=rf"{side + 1} x 1 pixels, but .{ending} holds at most"):
            write_image(tmp_path / f"a.{ending}", flat)
        assert not list(tmp_path.iterdir())
    write_image(tmp_path / "a.png", flat)
    assert cv2.imread(str(tmp_path / "a.png")).shape == (1, 16_384, 3)


def test_an_enlarged_image_has_a_longest_side():
    flat = torch.zeros(3, 2, 400, dtype=torch.uint8)
    drawn = draw_boxes(flat, torch.zeros(0, 4), [], short_side=480)
    assert drawn.shape == (3, 82, MAX_SIDE)
    longer = torch.zeros(3, 2, MAX_SIDE + 9, dtype=torch.uint8)  # is not reduced
    assert draw_boxes(longer, torch.zeros(0, 4), [], short_side=480).shape == longer.shape
