"""Test-time augmentation of the published release, detection by detection (CONVENTIONS.md)."""

import json

import pytest
from test_reference_run import CONFIG, detector, unmatched

from dynamic_atss.builders import build_test_loaders, build_test_model
from dynamic_atss.config.load import load_config
from dynamic_atss.engine.evaluator import run_detection
from dynamic_atss.evaluation.results import as_results

pytestmark = pytest.mark.slow

SETTINGS = {
    "INPUT.MIN_SIZE_TEST": "320",
    "INPUT.MAX_SIZE_TEST": "533",
    "INPUT.EXACT_RESIZE": "True",
    "DATALOADER.NUM_WORKERS": "0",
    "TEST.IMS_PER_BATCH": "2",
    "TEST.BBOX_AUG.ENABLED": "True",
    "TEST.BBOX_AUG.H_FLIP": "True",
    "TEST.BBOX_AUG.SCALES": "(256, 384)",
    "TEST.BBOX_AUG.SCALE_RANGES": "[[96, 10000], [0, 256]]",
    "TEST.BBOX_AUG.MAX_SIZE": "640",
    "TEST.BBOX_AUG.SCALE_H_FLIP": "True",
    "TEST.BBOX_AUG.VOTE": "True",
    "TEST.BBOX_AUG.MERGE_TYPE": "vote",
}
IMAGES = (885, 1000, 5477, 7281)


@pytest.fixture(scope="module")
def four_images(reference, tmp_path_factory):
    """Returns the data set without the two images that the reference lacks."""
    folder = reference / "detections"
    content = json.loads((folder / "annotations.json").read_text())
    content["images"] = [i for i in content["images"] if i["id"] in IMAGES]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in IMAGES]
    path = tmp_path_factory.mktemp("tta") / "annotations.json"
    path.write_text(json.dumps(content))
    return f"coco:{path}:{folder / 'images'}"


def test_votes_of_four_images(reference, checkpoint, four_images):
    overrides = {"DATASETS.TEST": f"({four_images!r},)", **SETTINGS}
    cfg = load_config(CONFIG, [word for pair in overrides.items() for word in pair])
    (loader,) = build_test_loaders(cfg).values()
    model = build_test_model(cfg, detector(cfg, checkpoint))
    table = run_detection(model, loader, "cpu", category_ids=loader.dataset.category_ids)
    results = as_results(table)
    wanted = json.loads((reference / "tta" / "bbox_vote.json").read_text())
    assert len(results) == len(wanted) == 1012
    assert not unmatched(results, wanted, score=1e-5, pixels=1e-3)
    assert not unmatched(wanted, results, score=1e-5, pixels=1e-3)
