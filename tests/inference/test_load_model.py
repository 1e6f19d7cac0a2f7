"""`load` and the inputs of the model that it returns."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from helpers_run import call_tool, environment
from PIL import Image

from dynamic_atss import load
from dynamic_atss.errors import UserError

ORIENTATION = 274


@pytest.fixture(scope="module")
def model(run):
    return load(run)


@pytest.fixture(scope="module")
def files(pictures):
    return sorted(pictures.glob("*.jpg"))


def same(a, b):
    return (
        np.array_equal(a.xywh, b.xywh)
        and torch.equal(a.scores, b.scores)
        and torch.equal(a.labels, b.labels)
    )


def test_detections_are_those_of_test_net(model, run, pictures):
    """Boxes, scores, categories and order agree with the test of the training, to 1e-6."""
    expected = json.loads((run / "inference/shapes_val/bbox.json").read_text())
    truth = json.loads((pictures.parent / "annotations/val.json").read_text())
    ids = {image["file_name"]: image["id"] for image in truth["images"]}
    found = [r for f in model(pictures, threshold=0) for r in f.to_coco(ids[f.name])]
    assert len(found) == len(expected) > 100
    categories = {c["id"]: c["name"] for c in truth["categories"]}
    for ours, theirs in zip(sorted_rows(found), sorted_rows(expected), strict=True):
        assert ours["image_id"] == theirs["image_id"]
        assert model.class_names[ours["category_id"] - 1] == categories[theirs["category_id"]]
        assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=1e-6)
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-6)


def test_detections_are_those_of_test_net_in_several_passes(run, pictures, tmp_path, monkeypatch):
    """TEST.BBOX_AUG applies to the loaded model, too."""
    aug = ["TEST.BBOX_AUG.ENABLED", "True", "TEST.BBOX_AUG.H_FLIP", "True"]
    aug += ["TEST.BBOX_AUG.SCALES", "(64,)"]
    args = ["--config-file", run / "config.yaml", "MODEL.WEIGHT", run / "model_final.pth", *aug]
    assert call_tool(monkeypatch, "test_net", [*args, "OUTPUT_DIR", tmp_path]) == 0
    expected = json.loads((tmp_path / "inference/shapes_val/bbox.json").read_text())
    found = [r for f in load(run, overrides=aug)(pictures, threshold=0) for r in f.to_coco()]
    assert len(found) == len(expected) > 100
    for key in ("score", "bbox"):
        ours, theirs = (np.array(sorted(row[key] for row in rows)) for rows in (found, expected))
        assert ours == pytest.approx(theirs, abs=1e-6)


def sorted_rows(rows):
    return sorted(rows, key=lambda r: (r["image_id"], -r["score"], r["bbox"]))


def test_one_picture_in_all_its_forms(model, files):
    path = files[0]
    bgr = cv2.imread(str(path))
    rgb = torch.from_numpy(np.ascontiguousarray(bgr[:, :, ::-1])).permute(2, 0, 1)
    expected = model(path, threshold=0)
    assert len(expected) > 10 and expected.name == path.name
    grey = np.full((64, 80), 90, np.uint8)
    alpha = np.dstack([bgr, np.zeros_like(bgr[:, :, :1])])
    for given in (str(path), bgr, alpha, Image.open(path), rgb, rgb.float() / 255):
        assert same(model(given, threshold=0), expected)
    assert same(model(grey, threshold=0), model(np.dstack([grey] * 3), threshold=0))
    assert torch.equal(expected.image, rgb)


def test_lists_give_lists_and_long_sources_streams(model, files, pictures):
    expected = [model(f, threshold=0) for f in files]
    batch = torch.stack([f.image for f in expected])
    for given in (files, batch, list(batch)):
        found = model(given, threshold=0, batch=3)
        assert isinstance(found, list) and len(found) == len(files)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.xywh == pytest.approx(theirs.xywh, abs=1e-3)
    for given in (pictures, f"{pictures}/*.jpg", iter(files), (f for f in files)):
        stream = model(given, threshold=0)
        assert iter(stream) is stream
        assert all(same(a, b) for a, b in zip(stream, expected, strict=True))


def test_a_stream_reads_a_picture_when_it_is_asked_for(model, files):
    asked = []

    def pictures():
        for file in files:
            asked.append(file)
            yield file

    stream = model(pictures())
    assert not asked
    next(stream)
    assert len(asked) == 1


def test_what_one_asks_of_the_result(model, files, tmp_path):
    found = model(files[0], threshold=0)[:5]
    assert found.boxes.shape == (5, 4) and found.boxes.dtype == torch.float32
    assert found.names == [model.class_names[i] for i in found.labels.tolist()]
    width = found.boxes[:, 2] - found.boxes[:, 0]
    assert width.numpy() == pytest.approx(found.xywh[:, 2], abs=1e-4)
    assert (found.scores.diff() <= 0).all()
    picture = found.plot()
    assert picture.size == (found.image.shape[2], found.image.shape[1])
    assert (np.asarray(picture) != found.image.permute(1, 2, 0).numpy()).any()
    assert min(found.plot(short_side=300).size) == 300
    found.save(tmp_path / "x.png")
    assert cv2.imread(str(tmp_path / "x.png")).shape[:2] == found.image.shape[1:]
    rows = found.to_coco(image_id=7)
    assert rows[0]["image_id"] == 7 and rows[0]["category_id"] == found.labels[0] + 1
    best = found[found.scores >= found.scores[1]]
    assert (len(best) == 2 and "2 " in repr(best)) or "1 " in repr(best)
    with pytest.raises(UserError, match="no image format has this extension"):
        found.save(tmp_path / "x.txt")


def test_supervision_is_optional(model, files, monkeypatch):
    found = model(files[0], threshold=0)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "supervision", None)
        with pytest.raises(UserError, match="pip install supervision"):
            found.to_supervision()
    supervision = pytest.importorskip("supervision")
    given = found.to_supervision()
    assert isinstance(given, supervision.Detections) and len(given) == len(found)
    assert given.xyxy == pytest.approx(found.boxes.numpy())
    assert list(given.data["class_name"]) == found.names


def test_a_path_may_start_at_the_home_folder(model, files, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    model(files[0]).save("~/new/x.png")
    assert (tmp_path / "home/new/x.png").is_file() and not (tmp_path / "~").exists()
    assert model("~/new/x.png").name == "x.png"
    with pytest.raises(UserError, match=r"~nobody_here/x.png: no such picture"):
        model("~nobody_here/x.png")


def test_threshold_and_classes(model, files):
    every = model(files[0], threshold=0)
    limit = float(every.scores[4])
    assert len(model(files[0], threshold=limit)) == int((every.scores >= limit).sum())
    name = every.names[0]
    chosen = model(files[0], threshold=0, classes=name)
    assert set(chosen.names) == {name} and len(chosen) == every.names.count(name)
    index = model.class_names.index(name)
    arrays = np.array([index]), torch.tensor([index]), torch.tensor(index), np.array(index)
    for classes in ([index], [name], index, str(index), *arrays, np.int64(index), [*arrays[1]]):
        assert same(model(files[0], threshold=0, classes=classes), chosen)
    with pytest.raises(UserError, match=r"no class 'cirle'; the nearest is circle"):
        model(files[0], classes="cirle")
    with pytest.raises(UserError, match=r"no class 6; it has circle, square"):
        model(files[0], classes=[6])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 30}, "threshold 30: give a score"),
        ({"tile": 8}, "tile 8: give 32 pixels or more"),
        ({"tile": 64, "overlap": 1.0}, "overlap 1.0"),
        ({"batch": -1}, "batch -1"),
        ({"threshold": "0.5"}, "threshold '0.5': give a score"),
        ({"threshold": None}, "threshold None"),
        ({"tile": "640"}, "tile '640'"),
        ({"tile": 640.5}, "tile 640.5"),
        ({"batch": 1.5}, "batch 1.5"),
        ({"classes": 1.0}, "classes 1.0: give names or indices"),
        ({"classes": True}, "no class True"),
        ({"classes": [None]}, "no class None"),
        ({"classes": torch.tensor([True])}, "no class True"),
        ({"classes": torch.tensor([0.0])}, "no class 0.0"),
        ({"classes": np.array([[0]])}, r"no class \[0\]"),
    ],
)
def test_options_that_cannot_be(model, files, options, message):
    with pytest.raises(UserError, match=message):
        model(files[0], **options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.jpg", "nowhere.jpg: no such picture, folder or video"),
        ("nowhere/*.jpg", "no file matches this pattern"),
        (np.zeros((3, 4, 5), np.uint8), r"an array \(3, 4, 5\) of uint8: give \(H, W, 3\)"),
        (np.zeros((4, 4, 3)), "of float64"),
        (torch.full((3, 4, 4), 2.0), "not normalised"),
        (torch.full((3, 4, 4), torch.nan), "not normalised"),
        ([object()], "not a object"),
        (3.5, "not a float"),
        (b"x", "a bytes is no picture"),
        ({"image": 1}, "a dict is no picture"),
        ("", "an empty text"),
        (" ", "an empty text"),
        ("https://example.org/a.jpg", "https://example.org/a.jpg: addresses are not opened"),
        (Image.new("I", (4, 4)), "mode I"),
        (99, "camera 99: no such camera"),
        (np.int64(99), "camera 99: no such camera"),
        (-1, "camera -1: give the number of a camera, 0 to 9999"),
        (10_000, "camera 10000: give the number"),
        (2**40, "camera 1099511627776: give the number"),
        (np.int64(-1), "camera -1: give the number"),
        (np.True_, "not a bool"),
        (["v/a.mp4"], "v/a.mp4: is a video: give each video alone"),
        ("v/*.mp4", "v/a.mp4: is a video: give each video alone"),
        ("v/*", "v/a.mp4: is a video: give each video alone"),
        ("v", "v: the folder has no pictures .*: give each video alone, as v/a.mp4"),
        ("link.jpg", "link.jpg: is a link to nowhere, which cannot be found"),
        ("link.mp4", "link.mp4: is a link to link.mp4, which cannot be found"),  # to itself
    ],
)
def test_what_is_no_picture(model, given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v").mkdir()
    (tmp_path / "v/a.mp4").touch()
    (tmp_path / "link.jpg").symlink_to("nowhere")
    (tmp_path / "link.mp4").symlink_to("link.mp4")
    with pytest.raises(UserError, match=message):
        model(given)


def test_what_is_passed_over_in_a_folder_is_told(model, files, tmp_path, caplog):
    (tmp_path / "a.jpg").write_bytes(files[0].read_bytes())
    list(model(tmp_path))
    assert not caplog.messages
    (tmp_path / "street.mp4").touch()
    (tmp_path / "deeper").mkdir()
    (tmp_path / ".hidden").touch()
    assert len(list(model(tmp_path))) == 1
    (line,) = caplog.messages
    assert "2 of 3 entries are skipped, such as deeper" in line and "**/*.jpg" in line


def test_tiles_that_are_enlarged_are_told(model, files, caplog):
    side = model.restored.cfg.INPUT.MIN_SIZE_TEST
    model(files[0], tile=side)
    assert not caplog.messages
    model(files[0], tile=side // 2)
    assert f"give {side} or more" in caplog.text and "2.0 times" in caplog.text


def test_a_broken_picture_of_a_folder_is_left_out(model, files, tmp_path, caplog):
    for file in files[:3]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    broken = tmp_path / files[1].name
    broken.write_bytes(files[1].read_bytes()[:-200])
    stream = model(tmp_path)
    assert [f.name for f in stream] == [files[0].name, files[2].name]
    assert len(stream.broken) == 1 and str(broken) in stream.broken[0]
    assert f"skipped: {broken}" in caplog.text
    assert [f.name for f in model(iter([broken, files[0]]))] == [str(files[0])]
    for given in (broken, [files[0], broken], Image.open(broken)):
        with pytest.raises(UserError, match=r"cannot be decoded"):
            model(given)
    with pytest.raises(UserError, match=r"has no pictures \(.jpg"):
        (tmp_path / "empty").mkdir()
        model(tmp_path / "empty")


def test_the_frame_and_the_limit_of_the_training(run, files, tmp_path):
    """A quarter turn by EXIF applies if it did in training. INPUT.MAX_PIXELS applies."""
    turned = tmp_path / "turned.jpg"
    with Image.open(files[0]) as picture:
        exif = picture.getexif()
        exif[ORIENTATION] = 6
        picture.crop((0, 0, 96, 60)).save(turned, exif=exif)
    as_stored, upright = load(run), load(run, overrides=["INPUT.EXIF", "apply"])
    for given in (turned, Image.open(turned)):
        assert as_stored(given).image.shape == (3, 60, 96)
        assert upright(given).image.shape == (3, 96, 60)
    few = load(run, overrides=["INPUT.MAX_PIXELS", "1000"])
    with pytest.raises(UserError, match=r"more than INPUT.MAX_PIXELS 1000"):
        few(files[0])


@pytest.mark.slow
def test_nothing_of_the_training_is_imported(run, files):
    code = (
        "import sys\n"
        "import dynamic_atss\n"
        "assert 'torch' not in sys.modules\n"
        "from dynamic_atss import load\n"
        f"found = load({str(run)!r})({str(files[0])!r}, threshold=0)\n"
        "assert len(found)\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    imported = set(done.stdout.split())
    assert "dynamic_atss.inference.model" in imported
    training = (
        "dynamic_atss.assigners",
        "dynamic_atss.losses",
        "dynamic_atss.modeling.criterion",
        "dynamic_atss.modeling.box_terms",
        "dynamic_atss.modeling.class_loss",
        "dynamic_atss.builders.augment",
        "dynamic_atss.builders.data",
        "dynamic_atss.builders.solver",
        "dynamic_atss.data.dataset",
        "dynamic_atss.data.loader",
        "dynamic_atss.data.mosaic",
        "dynamic_atss.engine.distributed",
        "dynamic_atss.engine.evaluator",
        "dynamic_atss.engine.metrics",
        "dynamic_atss.engine.optim",
        "dynamic_atss.engine.trainer",
        "dynamic_atss.run",
        "dynamic_atss.scoring",
        "tensorboard",
        "torch.utils.tensorboard",
        "matplotlib",
        "hotcoco",
        "pycocotools",
    )
    assert [x for x in imported if any(x == y or x.startswith(f"{y}.") for y in training)] == []
