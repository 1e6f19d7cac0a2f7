"""Test-time augmentation by configuration: against the same steps one by one, and in runs."""

import json

import numpy as np
import pytest
import torch
from helpers_run import call_tool, read_lines, run_tool, write_config
from helpers_vote import naive_nms, naive_vote, rows
from torch import nn

from dynamic_atss.builders import build_model, build_test_loaders, build_test_model
from dynamic_atss.builders.tta import build_test_resizes
from dynamic_atss.config.load import load_config
from dynamic_atss.data.loader import collate
from dynamic_atss.data.transforms import HorizontalFlip, Resize
from dynamic_atss.types import Detections

pytestmark = pytest.mark.slow

AUG = {"ENABLED": True, "H_FLIP": True, "SCALES": (48, 128), "SCALE_H_FLIP": True, "MAX_SIZE": 200}
MORE = {"SCALE_RANGES": ((20, 1000), (0, 70)), "VOTE_TH": 0.5}
NORM = ["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.ATSS.PRIOR_PROB", 0.06]
LOW = [*NORM, "MODEL.ATSS.INFERENCE_TH", 0.001]


def words(**aug):
    """Returns overrides of TEST.BBOX_AUG."""
    return [word for k, v in aug.items() for word in (f"TEST.BBOX_AUG.{k}", str(v))]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def weights(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        args = [*config, *LOW, "OUTPUT_DIR", out, "--skip-test"]
        assert call_tool(patch, "train_net", args) == 0
    return out / "model_final.pth"


# --- the passes and the merge ------------------------------------------------------------------


def test_sizes_of_the_passes():
    def sizes(**aug):
        common = {"ENABLED": True, "SCALES": (400, 800, 1200), "MAX_SIZE": 3000}
        cfg = load_config(None, words(**common | aug))
        return [(r.min_sizes, r.max_size) for r in build_test_resizes(cfg)]

    plain = ((800,), 1333)
    assert sizes(VOTE=True) == [plain, ((400,), 1333), ((800,), 3000), ((1200,), 3000)]
    assert sizes(VOTE=False) == [plain, ((400,), 3000), ((800,), 3000), ((1200,), 3000)]
    assert sizes(ENABLED=False) == [plain]


def test_off_it_is_the_model_itself():
    model = torch.nn.Identity()
    assert build_test_model(load_config(None, words(H_FLIP=True)), model) is model


def naive_pass(model, samples, size, flip, nms):
    """Returns detections of images that are resized, mirrored and batched one by one."""
    rng = np.random.default_rng(0)
    views = []
    for sample in samples:
        image, gt = Resize(*size)(sample.image, sample.gt, rng)
        image, gt = HorizontalFlip(1.0 if flip else 0.0)(image, gt, rng)
        views.append(type(sample)(image, gt, sample.image_id, sample.original_size))
    batch = collate(views, 32)
    result = []
    for found, (height, width) in zip(model(batch, nms=nms), batch.sizes.tolist(), strict=True):
        boxes = found.boxes.double()
        if flip:
            x1, y1, x2, y2 = boxes.unbind(1)
            boxes = torch.stack([width - 1 - x2, y1, width - 1 - x1, y2], dim=1)
        result.append((boxes, found.scores.double(), found.classes, (height, width)))
    return result


def naive_passes(model, samples, vote):
    """Returns for each image all boxes, scores and classes, in pixels of the first pass."""
    plan = [(((96,), 96), None), (((48,), 96 if vote else 200), MORE["SCALE_RANGES"][0])]
    plan += [(((128,), 96 if vote else 200), MORE["SCALE_RANGES"][1])]
    parts = [[] for _ in samples]
    for size, limits in plan:
        for flip in (False, True):
            passed = naive_pass(model, samples, size, flip, nms=vote)
            for part, (boxes, scores, classes, (h, w)) in zip(parts, passed, strict=True):
                keep = torch.ones(len(boxes), dtype=torch.bool)
                if vote and limits is not None:
                    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
                        area = (x2 - x1 + 1) * (y2 - y1 + 1)
                        keep[i] = limits[0] ** 2 < area < limits[1] ** 2
                first_h, first_w = part[0][3] if part else (h, w)
                ratio = torch.tensor([first_w / w, first_h / h] * 2, dtype=torch.float64)
                part.append((boxes[keep] * ratio, scores[keep], classes[keep], (h, w)))
    return [[torch.cat(x) for x in list(zip(*part, strict=True))[:3]] for part in parts]


MERGES = {
    "vote": lambda *found: naive_vote(*found, 0.5, None, 1.0),
    "soft-vote": lambda *found: naive_vote(*found, 0.5, 0.05, 1.0),
    "nms": lambda *found: naive_nms(*found, 0.6),
    "nothing": lambda *found: rows(*found),  # MODEL.ATSS.NMS_TH 0: no NMS in the passes, either
    "": lambda *found: naive_nms(*found, 0.55),  # VOTE False: the FCOS threshold
}


@pytest.mark.parametrize("kind", MERGES)
def test_as_step_by_step(config, kind):
    vote, limit = bool(kind), 1000 if kind else 40
    merge = {"VOTE": vote, "MERGE_TYPE": kind if kind in ("nms", "soft-vote") else "vote"}
    other = ["MODEL.FCOS.NMS_TH", "0.55", "TEST.DETECTIONS_PER_IMG", "40"]
    other += ["MODEL.ATSS.NMS_TH", "0"] if kind == "nothing" else []
    other += ["MODEL.ATSS.PRE_NMS_TOP_N", "60" if kind == "" else "1000"]
    cfg = load_config(
        config[1], [*config[2:], *map(str, NORM), *other, *words(**AUG, **MORE, **merge)]
    )
    (loader,) = build_test_loaders(cfg).values()
    torch.manual_seed(0)
    model = build_model(cfg, len(loader.dataset.class_names)).eval()
    with torch.inference_mode():
        batch = next(iter(loader))
        found = build_test_model(cfg, model)(batch)
        joined = naive_passes(model, [loader.dataset[i] for i in range(4)], vote)
    assert batch.image_ids == tuple(loader.dataset.image_ids[:4]) and len(batch.scaled) == 2
    for mine, naive in zip(found, joined, strict=True):
        wanted = sorted(sorted(MERGES[kind](*naive), key=lambda row: -row[1])[:limit])
        assert len(mine) == len(wanted) > 20
        torch.testing.assert_close(
            torch.tensor(rows(mine.boxes, mine.scores, mine.classes)),
            torch.tensor(wanted),
            rtol=1e-4,
            atol=2e-3,
        )


@pytest.mark.parametrize("vote, key", [(False, "FCOS"), (True, "ATSS")])
def test_a_threshold_of_0_merges_nothing(config, vote, key):
    box = torch.tensor([[0.0, 0, 9, 9]])
    found = Detections(box.repeat(3, 1), torch.tensor([0.2, 0.9, 0.5]), torch.zeros(3).long())
    for threshold, left in (("0", [0.9, 0.5]), ("0.6", [0.9])):
        limits = ["TEST.DETECTIONS_PER_IMG", "2", "MODEL.ATSS.PRE_NMS_TOP_N", "2"]
        keys = [f"MODEL.{key}.NMS_TH", threshold, *limits, *words(**AUG, VOTE=vote)]
        augmented = build_test_model(load_config(config[1], [*config[2:], *keys]), nn.Identity())
        assert augmented.merge(found).scores.tolist() == pytest.approx(left)


HEADS = {"ATSS_ON": "LEGACY", "FCOS_ON": "LEGACY", "RETINANET_ON": "LEGACY", "DSLA_ON": "EXACT"}


@pytest.mark.parametrize("vote", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_every_head(config, head, vote):
    switches = [word for name in HEADS for word in (f"MODEL.{name}", str(name == head))]
    sure = [f"MODEL.{head.removesuffix('_ON')}.PRIOR_PROB", "0.06", *NORM[:2]]
    aug = words(**AUG, **MORE, VOTE=vote, MERGE_TYPE="soft-vote")
    cfg = load_config(config[1], [*config[2:], *switches, *sure, *aug])
    (loader,) = build_test_loaders(cfg).values()
    torch.manual_seed(0)
    model = build_test_model(cfg, build_model(cfg, len(loader.dataset.class_names))).eval()
    with torch.inference_mode():
        found = model(next(iter(loader)))
    for detections in found:
        assert detections.convention.name == HEADS[head]
        assert 10 < len(detections) <= (1000 if vote else 100)
        assert (detections.scores.diff() <= 0).all() and torch.isfinite(detections.boxes).all()
        assert ((detections.boxes >= 0) & (detections.boxes <= 96.5)).all()


# --- runs --------------------------------------------------------------------------------------

VOTE = words(**AUG, VOTE=True, MERGE_TYPE="soft-vote")


def detections(folder):
    return json.loads((folder / "inference/shapes_val/bbox.json").read_text())


def by_place(results):
    return sorted((r["image_id"], r["category_id"], r["score"], *r["bbox"]) for r in results)


def test_workers_and_two_processes_change_nothing(config, weights, tmp_path, monkeypatch):
    args = [*config, *LOW, *VOTE, "MODEL.WEIGHT", weights, "OUTPUT_DIR"]
    one, workers, two = tmp_path / "one", tmp_path / "workers", tmp_path / "two"
    assert call_tool(monkeypatch, "test_net", [*args, one, "TEST.IMS_PER_BATCH", 2]) == 0
    more = ["TEST.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 2]
    assert call_tool(monkeypatch, "test_net", [*args, workers, *more]) == 0
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = run_tool("test_net", [*args, two, "TEST.IMS_PER_BATCH", 4], launcher)
    assert ended.returncode == 0, ended.stderr
    assert len(detections(one)) > 100
    assert detections(workers) == detections(one)
    for mine, other in zip(*map(by_place, map(detections, (two, one))), strict=True):
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-3)


def test_it_is_also_the_test_within_a_training(config, tmp_path, monkeypatch):
    plain, augmented = tmp_path / "plain", tmp_path / "augmented"
    args = [*config, *LOW, "TEST.PERIOD", 3, "OUTPUT_DIR"]
    assert call_tool(monkeypatch, "train_net", [*args, plain]) == 0
    assert call_tool(monkeypatch, "train_net", [*args, augmented, *VOTE]) == 0
    lines = read_lines(plain), read_lines(augmented)
    assert [line["iteration"] for line in lines[1] if "dataset" in line] == [3, 6]
    trained = [[line for line in run if "loss" in line] for run in lines]
    assert trained[0] == trained[1]
    assert len({r["image_id"] for r in detections(augmented)}) == 8
    assert len(detections(augmented)) > len(detections(plain))
