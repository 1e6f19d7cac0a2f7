"""INPUT.EXIF: boxes stay on their pixels, and the log says which images are turned."""

import json

import numpy as np
import pytest
from helpers_data import box, open_coco, voc_object, voc_xml
from PIL import Image

from dynamic_atss.data.catalog import FORMATS, open_dataset
from dynamic_atss.data.check.check_all import fix
from dynamic_atss.data.check.opening import open_leniently
from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.orientation import ReadOptions, upright
from dynamic_atss.data.survey import box_findings
from dynamic_atss.data.voc import VocDataset
from dynamic_atss.errors import UserError

# A viewer shows 20 x 30 pixels with a white box at x 4, y 6, 10 wide, 5 high.
WHITE = [4, 6, 10, 5]
METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,  # orientation 6 turns it back
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def shown(height=20, width=30):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[6:11, 4:14] = 255
    return Image.fromarray(pixels)


def save(path, image, orientation):
    """Saves a file that viewers show as `image`. Orientation 1 has no EXIF."""
    stored = image.transpose(METHODS[orientation]) if orientation > 1 else image
    options = {}
    if orientation > 1:
        options["exif"] = Image.Exif()
        options["exif"][274] = orientation
    path.parent.mkdir(exist_ok=True)
    stored.save(path, **options)
    return stored


def write(folder, orientations, size="none", bbox=WHITE, ending="png", image=None):
    """Writes a COCO set with a picture per orientation. size: "none", "shown" or "stored"."""
    entries = []
    for i, orientation in enumerate(orientations, 1):
        name = f"{i}.{ending}"
        stored = save(folder / "images" / name, image or shown(), orientation)
        width, height = {"shown": (30, 20), "stored": stored.size, "none": (None, None)}[size]
        entries.append({"id": i, "file_name": name, "height": height, "width": width})
    boxes = [box(e["id"], e["id"], list(bbox)) for e in entries]
    content = {"images": entries, "annotations": boxes, "categories": [{"id": 7, "name": "cat"}]}
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


def white_share(dataset, index):
    """Returns the share of white pixels in the first box."""
    image, gt = dataset.load(index)
    assert image.shape[1:] == tuple(dataset.sizes[index])
    x1, y1, x2, y2 = gt.boxes[0].int().tolist()
    return (image[:, y1 : y2 + 1, x1 : x2 + 1] > 200).float().mean().item()


@pytest.mark.parametrize("ending", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("size", ["none", "shown"])
def test_boxes_drawn_upright_in_all_orientations(tmp_path, ending, size):
    data = open_coco(write(tmp_path, range(1, 9), size, ending=ending))
    assert data.sizes.tolist() == [[20, 30]] * 8
    assert [white_share(data, i) for i in range(8)] == pytest.approx([1.0] * 8, abs=0.02)


def test_the_original_size_is_the_upright_one(tmp_path):
    sample = open_coco(write(tmp_path, [6]), training=False)[0]
    assert sample.original_size == (20, 30) and sample.image.shape == (3, 20, 30)


def test_stored_sizes_are_read_as_stored(tmp_path, caplog):
    path = write(tmp_path, [1, 6, 8, 3], "stored", [6, 16, 5, 10])  # of orientation 6, as stored
    with caplog.at_level("INFO"):
        data = open_coco(path)
    assert data.sizes.tolist() == [[20, 30], [30, 20], [30, 20], [20, 30]]
    assert white_share(data, 1) == 1.0
    # The size of orientation 3 does not decide. The majority of the set does.
    stored = np.asarray(Image.open(tmp_path / "images/4.png"))
    assert np.array_equal(data.load(3)[0].permute(1, 2, 0).numpy(), stored)
    assert "3 of 4 images have an EXIF orientation" in caplog.text
    assert "0 are turned upright and 3 read as stored, by the annotated sizes" in caplog.text


def test_sizes_decide_for_each_picture_and_the_majority_for_the_others():
    stored = np.array([[20, 30], [20, 30], [20, 30], [20, 30], [25, 25], [20, 30]])
    given = np.array([[30, 20], [20, 30], [30, 20], [20, 30], [25, 25], [0, 0]])
    orientation = np.array([6, 6, 8, 3, 6, 5])
    assert upright(given, stored, orientation, "auto").tolist() == [True, False, *[True] * 4]
    most = orientation.copy()
    most[2] = 1
    found = upright(
        given[[1, 1, *range(6)]], stored[[1, 1, *range(6)]], most[[1, 1, *range(6)]], "auto"
    )
    assert found.tolist() == [False, False, True, False, False, False, False, False]
    assert upright(given, stored, orientation, "apply").all()
    assert not upright(given, stored, orientation, "ignore").any()


def test_the_key_decides(tmp_path, caplog):
    path = write(tmp_path, [6])
    with caplog.at_level("INFO"):
        apply = open_coco(path, reading=ReadOptions(exif="apply"))
        ignore = open_coco(path, reading=ReadOptions(exif="ignore"))
    assert apply.sizes.tolist() == [[20, 30]] and ignore.sizes.tolist() == [[30, 20]]
    assert "by INPUT.EXIF apply" in caplog.text and "by INPUT.EXIF ignore" in caplog.text
    path = write(tmp_path, [6], "shown")
    with pytest.raises(
        UserError, match=r"20 x 30 pixels as stored \(INPUT.EXIF ignore\).* 30 x 20"
    ):
        open_coco(path, reading=ReadOptions(exif="ignore"))


def test_square_pictures_are_shown_upright(tmp_path):
    path = write(tmp_path, [6, 7], "none", image=shown(30, 30))
    data = open_coco(path)
    assert [white_share(data, i) for i in range(2)] == [1.0, 1.0]


def test_voc_as_coco(tmp_path):
    for name in ("Annotations", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    save(tmp_path / "JPEGImages/a.png", shown(), 6)
    (tmp_path / "Annotations/a.xml").write_text(voc_xml(voc_object("cat", "5 7 14 11")))
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\n")
    data = VocDataset(tmp_path, "train", training=True)
    assert white_share(data, 0) == 1.0


@pytest.mark.parametrize(("exif", "size"), [("auto", [30, 20]), ("apply", [20, 30])])
def test_sets_of_the_catalog_are_read_as_stored(tmp_path, exif, size):
    path = write(tmp_path, [6])
    for name in ("annotations", "coco/annotations"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    path.rename(tmp_path / "coco/annotations/instances_val2017.json")
    (tmp_path / "images").rename(tmp_path / "coco/val2017")
    options = {"root": tmp_path, "training": False, "reading": ReadOptions(exif=exif)}
    assert open_dataset("coco_2017_val", **options).sizes.tolist() == [size]


def test_sets_of_the_catalog_read_no_header(tmp_path, monkeypatch):
    path = write(tmp_path, [6], "stored")
    read = []
    monkeypatch.setattr(
        "dynamic_atss.data.orientation.cached_headers", lambda *args: read.append(args) or []
    )
    CocoDataset(path, tmp_path / "images", training=False, reading=ReadOptions(headers=False))
    assert not read


def test_bad_files_are_counted_when_the_set_is_opened(tmp_path):
    path = write(tmp_path, [1, 1, 1])
    for i in (2, 3):
        (tmp_path / f"images/{i}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"2\.png: the image cannot.*2 of 3 images"):
        open_coco(path, training=False)


def test_wrong_sizes_are_counted_when_the_set_is_opened(tmp_path):
    path = write(tmp_path, [1, 1, 1], "stored")
    path.write_text(path.read_text().replace('"width": 30', '"width": 31'))
    with pytest.raises(UserError, match=r"1\.png: 30 x 20 .* says 31 x 20 \(2 other images differ"):
        open_coco(path, training=False)


def test_the_limit_of_pixels_is_checked_when_the_set_is_opened(tmp_path):
    path = write(tmp_path, [1, 6], "none")
    assert len(open_coco(path, reading=ReadOptions(max_pixels=600))) == 2
    with pytest.raises(UserError, match=r"30 x 20 pixels, more than INPUT.MAX_PIXELS 599.*2 of 2"):
        open_coco(path, reading=ReadOptions(max_pixels=599))


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_truncated_files_are_found_when_the_set_is_opened(tmp_path, ending):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 80, 3), np.uint8))
    path = write(tmp_path, [1, 6, 1], image=noise, ending=ending)
    good = [(tmp_path / f"images/{i}.{ending}").read_bytes() for i in (2, 3)]
    (tmp_path / f"images/2.{ending}").write_bytes(good[0] + b"what a camera appends")
    assert len(open_coco(path)) == 3
    (tmp_path / f"images/3.{ending}").write_bytes(good[1][:-2000])
    with pytest.raises(UserError, match=rf"3\.{ending}: the image cannot be decoded"):
        open_coco(path, training=False)


@pytest.mark.parametrize(("bbox", "warned"), [([15, 6, 12, 5], True), ([5, 6, 10, 5], False)])
def test_upright_boxes_with_stored_sizes_give_a_warning(tmp_path, caplog, bbox, warned):
    data = open_coco(write(tmp_path, [6, 8, 1], "stored", bbox))
    assert data.sizes.tolist() == [[30, 20], [30, 20], [20, 30]]  # as annotated
    assert ("2 of 2 boxes of pictures with an EXIF orientation" in caplog.text) == warned
    assert ("but lie inside the upright one" in caplog.text) == warned


def test_the_data_check_corrects_the_sizes_of_upright_boxes(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAMIC_ATSS_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path, [6, 8, 1], "stored", [15, 6, 12, 5])
    opened = open_leniently(f"coco:{path}:{path.parent / 'images'}", FORMATS, root=tmp_path)
    (finding,) = [f for f in box_findings(opened.surveyed) if f.code in ("upright", "clipped")]
    assert (finding.code, finding.level, finding.count) == ("upright", "fix", 2)
    assert "Exchange width and height" in finding.line
    assert "corrected sizes of images: 2" in fix(opened, tmp_path / "fixed.json")
    fixed = CocoDataset(tmp_path / "fixed.json", path.parent / "images", training=True)
    assert fixed.sizes.tolist() == [[20, 30]] * 3
    assert fixed.content.xywh.tolist() == [[15, 6, 12, 5]] * 3
