import json
import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.annotations import read_annotations
from dynamic_atss.engine.evaluator import defined_numbers, evaluate_dataset, run_detection
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.results import as_results
from dynamic_atss.progress import progress
from dynamic_atss.types import Batch, Detections, GroundTruth

CATEGORY_IDS = (10, 7)


class Finder(nn.Module):
    """Detects as many boxes as the first pixel of the image says. One layer is frozen."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.BatchNorm2d(1).eval()
        self.body = nn.BatchNorm2d(1)

    def forward(self, batch):
        assert not self.training and not self.body.training
        assert torch.is_inference_mode_enabled()
        return [self.find(int(image[0, 0, 0])) for image in batch.images]

    def find(self, count):
        corner = 10.0 * torch.arange(count)[:, None]
        boxes = torch.cat([corner, corner, corner + 8, corner + 8], 1)
        scores = 0.9 - 0.1 * torch.arange(count)
        return Detections(boxes, scores, torch.arange(count) % 2)


def batch(ids):
    """Makes images of (20, 40) pixels, from files of twice that size, with `id % 3` objects."""
    images = torch.zeros(len(ids), 3, 32, 64, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor([i % 3 for i in ids])
    empty = torch.zeros(0, dtype=torch.int64)
    gt = GroundTruth(torch.zeros(0, 4), empty, empty)
    return Batch(images, torch.tensor([[20, 40]] * len(ids)), gt, ids, ((40, 80),) * len(ids))


def infer_with(model, loader, **options):
    return as_results(run_detection(model, loader, "cpu", category_ids=CATEGORY_IDS, **options))


def infer(loader, **options):
    return infer_with(Finder().train(), loader, **options)


def annotation_file(path, image_ids):
    """Writes ground truth that equals the detections of `Finder`, in original pixels."""
    annotations = [
        {"image_id": i, "category_id": CATEGORY_IDS[k % 2], "bbox": [20 * k, 20 * k, 17, 17]}
        for i in image_ids
        for k in range(i % 3)
    ]
    content = {
        "images": [{"id": i, "width": 80, "height": 40} for i in image_ids],
        "categories": [{"id": 10, "name": "ten"}, {"id": 7, "name": "seven"}],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content))
    return path


def dataset(path, image_ids):
    names = ("ten", "seven")
    return SimpleNamespace(
        annotations=path,
        category_ids=CATEGORY_IDS,
        class_names=names,
        image_ids=image_ids,
        voc_scores=False,
        content=read_annotations(path, need_boxes=False),
    )


def test_results_are_in_original_pixels_and_ordered_by_image():
    results = infer([batch((5, 3)), batch((1,))], image_ids=(1, 3, 5))
    assert [r["image_id"] for r in results] == [1, 5, 5]
    assert results[2]["category_id"] == 7
    assert results[2]["bbox"] == [20.0, 20.0, 17.0, 17.0]
    assert results[2]["score"] == pytest.approx(0.8)


class ExactFinder(Finder):
    def forward(self, batch):
        return [replace(found, convention=BoxConvention.EXACT) for found in super().forward(batch)]


def test_boxes_are_written_by_their_convention():
    (result,) = infer_with(ExactFinder(), [batch((1,))])
    assert result["bbox"] == [0.0, 0.0, 16.0, 16.0]  # 17 in the legacy convention


def test_the_mode_of_every_module_is_restored_even_after_an_error():
    model = Finder().train()
    model.frozen.eval()
    infer_with(model, [batch((1,))])
    with pytest.raises(TypeError):
        infer_with(model, [None])
    assert (model.training, model.body.training, model.frozen.training) == (True, True, False)


@pytest.mark.parametrize(
    ("ids", "expected", "message"),
    [
        ((1, 2, 1), None, "1 images twice seen: 1;"),
        ((1, 2), (1, 2, 30, 4), "2 images not seen: 4, 30;"),
        ((1, 2, 9), (1, 2), "1 images unexpectedly seen: 9;"),
    ],
)
def test_missing_and_repeated_images_are_named(ids, expected, message):
    with pytest.raises(RuntimeError, match=message):
        infer([batch((i,)) for i in ids], image_ids=expected)


def test_data_set_is_scored_written_and_logged(tmp_path, caplog):
    ids = tuple(range(7))
    data = dataset(annotation_file(tmp_path / "a.json", ids), ids)
    loader = [batch(ids[:4]), batch(ids[4:])]
    with caplog.at_level(logging.INFO):
        scores = evaluate_dataset(
            Finder(), loader, "cpu", dataset=data, output_dir=tmp_path / "inference"
        )
    assert scores.metrics["AP"] == pytest.approx(1)
    assert scores.per_category == pytest.approx({"ten": 1, "seven": 1})
    assert len(json.loads((tmp_path / "inference" / "bbox.json").read_text())) == 6
    written = json.loads((tmp_path / "inference" / "coco_metrics.json").read_text())
    assert written == scores.to_json()
    assert "seven" in caplog.text and "AP50" in caplog.text


@pytest.mark.parametrize(("found", "asked"), [([], True), (["it is so"], True), ([], False)])
def test_causes_are_logged_only_if_nothing_is_found(tmp_path, caplog, found, asked):
    """Exchanged category ids make all detections wrong."""
    ids, calls = (1, 2, 4), []
    data = dataset(annotation_file(tmp_path / "a.json", ids), ids)
    if asked:
        data.category_ids = CATEGORY_IDS[::-1]

    def explain(truth, table):
        calls.append((len(truth), len(table)))
        return found

    evaluate_dataset(Finder(), [batch(ids)], "cpu", dataset=data, explain=explain)
    assert calls == ([(4, 4)] if asked else [])
    log = "4 detections, AP below 0.0005. Likely causes, as measured:\n- "
    assert (log + (found or ["none is evident"])[0] in caplog.text) == asked


def test_the_defined_scores_are_known_before_a_test(tmp_path):
    ids = (1, 2)
    data = dataset(annotation_file(tmp_path / "a.json", ids), ids)
    scores = evaluate_dataset(Finder(), [batch(ids)], "cpu", dataset=data)
    defined = [name for name, value in scores.numbers.items() if value >= 0]
    assert defined_numbers(data) == defined and "APm" not in defined
    data.voc_scores = True
    assert defined_numbers(data) == [*defined, "VOC_mAP", "VOC07_mAP"]


def test_without_annotations_the_results_are_still_written(tmp_path):
    path = annotation_file(tmp_path / "a.json", (1, 2))
    content = json.loads(path.read_text())
    del content["annotations"]
    path.write_text(json.dumps(content))
    scores = evaluate_dataset(
        Finder(), [batch((1, 2))], "cpu", dataset=dataset(path, (1, 2)), output_dir=tmp_path / "out"
    )
    assert scores is None
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["bbox.json"]
    assert defined_numbers(dataset(path, (1, 2))) == []


def worker(rank, folder):
    """Rank 0 has three images in two batches, rank 1 two images in one; then one is repeated."""
    store = f"file://{folder / 'store'}"
    torch.distributed.init_process_group("gloo", store, rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(Finder())
    ranks = {"rank": rank, "world_size": 2}
    loader = [[batch((1, 2)), batch((5,))], [batch((4, 3))]][rank]
    data = dataset(folder / "a.json", (1, 2, 3, 4, 5))
    scores = evaluate_dataset(
        model, loader, "cpu", dataset=data, output_dir=folder / "out", **ranks
    )
    repeated = [[batch((1,))], [batch((1,))]][rank]
    try:
        infer_with(model, repeated, **ranks)
        failure = ""
    except RuntimeError as error:
        failure = str(error)
    report = {"scores": scores and scores.to_json(), "failure": failure}
    (folder / f"rank{rank}.json").write_text(json.dumps(report))
    # No process may end while the other still needs it. The model must go before its group.
    torch.distributed.barrier()
    del model
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_same_as_one(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    annotation_file(tmp_path / "a.json", (1, 2, 3, 4, 5))
    torch.multiprocessing.spawn(worker, (tmp_path,), nprocs=2)
    first, second = (json.loads((tmp_path / f"rank{r}.json").read_text()) for r in (0, 1))
    assert first["scores"]["AP"] == pytest.approx(1)
    assert second["scores"] is None
    alone = infer([batch((1, 2)), batch((4, 3)), batch((5,))])
    assert json.loads((tmp_path / "out" / "bbox.json").read_text()) == alone
    # Both ranks stop; one alone would leave the other waiting.
    assert "1 images twice seen: 1;" in first["failure"] == second["failure"]


def test_progress_is_silent_without_a_terminal_and_on_other_ranks(capsys, monkeypatch):
    assert list(progress([1, 2], "work")) == [1, 2]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert list(progress([1, 2], "work", rank=1)) == [1, 2]
    assert capsys.readouterr().err == ""
    assert list(progress([1, 2], "work")) == [1, 2]
    assert "work" in capsys.readouterr().err


def test_the_message_of_a_full_memory_describes_the_batch():
    class Full(nn.Module):
        def forward(self, batch):
            raise MemoryError

    with pytest.raises(UserError, match=r"^test val: .*TEST\.IMS_PER_BATCH.*20 x 40 \(0\)"):
        infer_with(Full(), [batch([1, 2])], progress_label="test val")
