"""Errors that must not be silent: another order of classes, other weights, damaged files."""

import itertools
import json
import shutil

import pytest
import torch
from helpers_run import call_tool, run_tool, write_config

from dynamic_atss.data.samplers import training_batches
from dynamic_atss.weights import to_published
from dynamic_atss.weights.classes import COCO

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(arguments of the tiny configuration, folder of a finished run)."""
    folder = tmp_path_factory.mktemp("tiny")
    config = write_config(folder)
    done = run_tool("train_net", [*config, "OUTPUT_DIR", folder / "run", "--skip-test"])
    assert done.returncode == 0, done.stderr
    return config, folder / "run"


def reordered(config, folder):
    """Copies the tiny data set with its categories in reverse order and with other ids."""
    shapes = next(iter(folder.parent.glob("datasets/shapes")))
    content = json.loads((shapes / "annotations/val.json").read_text())
    content["categories"] = content["categories"][::-1]
    for entry in content["categories"]:
        entry["id"] += 100
    for entry in content["annotations"]:
        entry["category_id"] += 100
    path = folder.parent / "reversed.json"
    path.write_text(json.dumps(content))
    return f"('coco:{path}:{shapes / 'val'}',)"


def only_error(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def check_same_but_for_ids(folder):
    """Compares the results below `folder` on the tiny data set and on its reordered copy."""
    plain, other = (
        json.loads((folder / "inference" / name / "bbox.json").read_text())
        for name in ("shapes_val", "reversed")
    )
    assert plain and other == [{**r, "category_id": r["category_id"] + 100} for r in plain]
    plain, other = (
        json.loads((folder / "inference" / name / "coco_metrics.json").read_text())
        for name in ("shapes_val", "reversed")
    )
    per_class = plain.pop("per_category"), other.pop("per_category")
    assert plain == other and per_class[0] == per_class[1]


def test_another_order_of_classes_is_scored_the_same(trained, tmp_path, monkeypatch):
    """The training scores by its own order of classes, and a test by the order of the file."""
    config, run = trained
    config = [*config, "MODEL.ATSS.INFERENCE_TH", 0.001]
    other = reordered(config, run).strip("(),")
    args = [*config, "OUTPUT_DIR", tmp_path / "train", "SOLVER.MAX_ITER", 1]
    args += ["DATASETS.TEST", f"('shapes_val', {other})"]
    assert call_tool(monkeypatch, "train_net", args) == 0
    check_same_but_for_ids(tmp_path / "train")
    args = [*config, "MODEL.WEIGHT", run / "model_final.pth", "OUTPUT_DIR", tmp_path / "test"]
    args += ["DATASETS.TEST", f"({other}, 'shapes_val')"]
    assert call_tool(monkeypatch, "test_net", args) == 0
    check_same_but_for_ids(tmp_path / "test")


def test_other_classes_are_not_scored(trained, tmp_path, monkeypatch, capsys):
    config, run = trained
    path = run.parent / "datasets/shapes/annotations/val.json"
    (tmp_path / "other.json").write_text(path.read_text().replace('"circle"', '"disc"'))
    other = f"('coco:{tmp_path}/other.json:{path.parents[1]}/val',)"
    args = [*config, "MODEL.WEIGHT", run / "model_final.pth", "OUTPUT_DIR", tmp_path]
    assert call_tool(monkeypatch, "test_net", [*args, "DATASETS.TEST", other]) == 2
    assert "other.json: the model has no class 'disc'" in only_error(capsys)


def with_classes(run, folder, wanted):
    """Writes a tiny test set that has only some classes and their boxes."""
    shapes = run.parent / "datasets/shapes"
    content = json.loads((shapes / "annotations/val.json").read_text())
    content["categories"] = [c for c in content["categories"] if c["name"] in wanted]
    ids = {c["id"] for c in content["categories"]}
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] in ids]
    (folder / "chosen.json").write_text(json.dumps(content))
    return f"coco:{folder / 'chosen.json'}:{shapes / 'val'}", ids


@pytest.mark.parametrize("tool", ["train_net", "test_net"])
def test_some_of_the_classes_are_scored_alone(trained, tmp_path, monkeypatch, tool):
    config, run = trained
    name, ids = with_classes(run, tmp_path, ("triangle", "circle"))
    args = [*config, "MODEL.ATSS.INFERENCE_TH", 0.001, "DATASETS.TEST", f"{name},shapes_val"]
    args += ["OUTPUT_DIR", tmp_path / "out", "MODEL.WEIGHT", run / "model_final.pth"]
    args += ["SOLVER.MAX_ITER", 1, "SOLVER.BASE_LR", 1e-9]
    assert call_tool(monkeypatch, tool, args) == 0
    chosen, every = (
        json.loads((tmp_path / f"out/inference/{n}/bbox.json").read_text())
        for n in ("chosen", "shapes_val")
    )
    assert chosen and chosen == [r for r in every if r["category_id"] in ids]
    assert len(chosen) < len(every)
    chosen, every = (
        json.loads((tmp_path / f"out/inference/{n}/coco_metrics.json").read_text())
        for n in ("chosen", "shapes_val")
    )
    assert sorted(chosen["per_category"]) == ["circle", "triangle"]
    assert all(ap == every["per_category"][n] for n, ap in chosen["per_category"].items())
    log = (tmp_path / "out/log.txt").read_text()
    assert "chosen.json: has 2 of the model's 6 classes and is scored on these" in log


def unnamed(run, folder):
    """Writes the weights of a run without class names, as the releases do."""
    path = folder / "pub.pth"
    content = torch.load(run / "model_final.pth")
    torch.save({"model": to_published(content["model"])}, path)
    return path


def with_coco_names(run, folder, name, order):
    """Writes the tiny test set with COCO's 80 names; it has boxes of the first six."""
    shapes = run.parent / "datasets/shapes"
    content = json.loads((shapes / "annotations/val.json").read_text())
    categories = content["categories"]
    others = [{"id": 1000 + i} for i in range(80 - len(categories))]
    named = [{**c, "name": n} for c, n in zip([*categories, *others], COCO, strict=True)]
    content["categories"] = named[::order]
    (folder / f"{name}.json").write_text(json.dumps(content))
    return f"coco:{folder / name}.json:{shapes / 'val'}"


def test_cocos_names_in_any_order_fit_a_published_file(trained, tmp_path, monkeypatch):
    config, run = trained
    plain, back = (with_coco_names(run, tmp_path, *of) for of in (("plain", 1), ("back", -1)))
    args = [*config, "DATASETS.TRAIN", plain, "SOLVER.MAX_ITER", 1, "SOLVER.BASE_LR", 1e-9]
    args += ["DATASETS.TEST", "()", "OUTPUT_DIR", tmp_path / "run"]
    assert call_tool(monkeypatch, "train_net", args) == 0
    path = unnamed(tmp_path / "run", tmp_path)
    found = {}
    for name in (plain, back):
        out = tmp_path / f"out_{len(found)}"
        args = [*config, "MODEL.ATSS.INFERENCE_TH", 0.001, "MODEL.WEIGHT", path]
        args += ["DATASETS.TEST", name, "OUTPUT_DIR", out]
        assert call_tool(monkeypatch, "test_net", args) == 0
        (results,) = out.glob("inference/*/bbox.json")
        found[name] = json.loads(results.read_text())
        assert "its 80 classes are taken as COCO's" in (out / "log.txt").read_text()
    assert found[plain] and found[plain] == found[back]
    # When training starts from these weights, the rows of the class layer follow the names.
    args = [*config, "DATASETS.TRAIN", back, "SOLVER.MAX_ITER", 1, "SOLVER.BASE_LR", 1e-9]
    args += ["DATASETS.TEST", "()", "OUTPUT_DIR", tmp_path / "from", "MODEL.WEIGHT", path]
    assert call_tool(monkeypatch, "train_net", args) == 0
    weight, other = (
        torch.load(tmp_path / f"{of}/model_final.pth")["model"]["head.cls_logits.weight"]
        for of in ("run", "from")
    )
    torch.testing.assert_close(other, weight.flip(0))


def test_without_class_names_the_assumed_order_is_logged(trained, tmp_path, monkeypatch):
    config, run = trained
    path = unnamed(run, tmp_path)
    args = [*config, "MODEL.WEIGHT", path, "OUTPUT_DIR", tmp_path / "out"]
    assert call_tool(monkeypatch, "test_net", args) == 0
    text = (tmp_path / "out/log.txt").read_text()
    assert "no class names in the file" in text
    shapes = json.loads((run.parent / "datasets/shapes/annotations/val.json").read_text())
    assert ", ".join(c["name"] for c in shapes["categories"]) in text
    assert "in the order of their ids" not in text
    # A test set with some classes does not set the order if another one has all classes.
    name, _ = with_classes(run, tmp_path, ("circle",))
    args = [*config, "MODEL.WEIGHT", path, "OUTPUT_DIR", tmp_path / "more"]
    args += ["DATASETS.TEST", f"{name},shapes_val"]
    assert call_tool(monkeypatch, "test_net", args) == 0
    args = [*config, "MODEL.WEIGHT", path, "OUTPUT_DIR", tmp_path / "back"]
    assert call_tool(monkeypatch, "test_net", [*args, "DATASETS.TEST", reordered(config, run)]) == 0
    text = (tmp_path / "back/log.txt").read_text()
    assert "reversed.json are not in the order of their ids" in text


def test_another_order_of_classes_is_not_resumed(trained, tmp_path, monkeypatch, capsys):
    config, run = trained
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    other = reordered(config, run)
    args = [*config, "--resume", "OUTPUT_DIR", copy, "DATASETS.TRAIN", other, "SOLVER.MAX_ITER", 8]
    assert call_tool(monkeypatch, "train_net", [*args, "DATASETS.TEST", "()"]) == 2
    assert "'circle'" in only_error(capsys)


def test_a_start_from_another_order_takes_the_classes_by_name(trained, tmp_path, monkeypatch):
    config, run = trained
    other = ["DATASETS.TRAIN", reordered(config, run), "DATASETS.TEST", "()"]
    args = [*config, *other, "MODEL.WEIGHT", run / "model_final.pth", "SOLVER.MAX_ITER", 1]
    args += ["SOLVER.BASE_LR", 1e-9, "OUTPUT_DIR", tmp_path]
    assert call_tool(monkeypatch, "train_net", args) == 0
    before, after = (torch.load(p / "model_final.pth") for p in (run, tmp_path))
    assert after["classes"] == before["classes"][::-1]
    for name in ("head.cls_logits.weight", "head.cls_logits.bias"):
        torch.testing.assert_close(after["model"][name], before["model"][name].flip(0))
    assert "order their classes differently: matched by name" in (
        (tmp_path / "log.txt").read_text()
    )


def test_a_start_from_other_classes_leaves_the_class_layer(trained, tmp_path, monkeypatch):
    config, run = trained
    path = run.parent / "datasets/shapes/annotations/val.json"
    (tmp_path / "other.json").write_text(path.read_text().replace('"circle"', '"disc"'))
    other = ["DATASETS.TRAIN", f"coco:{tmp_path}/other.json:{path.parents[1]}/val"]
    other += ["DATASETS.TEST", "()"]
    args = [*config, *other, "MODEL.WEIGHT", run / "model_final.pth", "SOLVER.MAX_ITER", 1]
    args += ["SOLVER.BASE_LR", 1e-9, "OUTPUT_DIR", tmp_path]
    assert call_tool(monkeypatch, "train_net", args) == 0
    before, after = (torch.load(p / "model_final.pth")["model"] for p in (run, tmp_path))
    same = {name for name in before if torch.allclose(before[name], after[name], atol=1e-6)}
    assert "head.cls_logits.weight" not in same and "head.bbox_pred.weight" in same
    assert "head.cls_logits.* left at its initial value" in (tmp_path / "log.txt").read_text()


def test_weights_of_the_yaml_file_are_tested(trained, tmp_path, monkeypatch):
    """The order: command line, last checkpoint of OUTPUT_DIR, YAML file."""
    config, run = trained
    yaml = tmp_path / "with_weight.yaml"
    text = (run.parent / "tiny.yaml").read_text()
    yaml.write_text(text.replace("MODEL:\n", f'MODEL:\n  WEIGHT: "{run / "model_final.pth"}"\n', 1))
    args = ["--config-file", yaml, *config[2:], "OUTPUT_DIR", tmp_path]
    assert call_tool(monkeypatch, "test_net", args) == 0
    assert str(run / "model_final.pth") in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("launcher", [(), ("-m", "torch.distributed.run", "--nproc-per-node", "2")])
def test_a_file_that_breaks_costs_no_finished_iteration(trained, tmp_path, launcher):
    config, _ = trained
    shutil.copytree(f"{config[3]}/shapes", tmp_path / "datasets/shapes")
    images = sorted((tmp_path / "datasets/shapes/train").iterdir())
    third = list(itertools.islice(training_batches(None, len(images), 4, seed=0), 3))[2]
    broken = images[third[-1][0]]  # the last image of iteration 3: that of the last process
    data = broken.read_bytes()
    broken.write_bytes(data[:-200])
    args = [*config[:2], "DATASETS.ROOT", tmp_path / "datasets", "OUTPUT_DIR", tmp_path / "run"]
    args += ["--skip-test", "SOLVER.CHECKPOINT_PERIOD", 1000]
    done = run_tool("train_net", args, launcher)
    assert done.returncode == (1 if launcher else 2)  # torchrun's own code is 1
    assert done.stderr.count(f"error: iteration 3: {broken}") == 1
    assert "trainer.py" not in done.stderr
    assert (tmp_path / "run/last_checkpoint").read_text() == "model_0000002.pth"
    broken.write_bytes(data)
    again = run_tool("train_net", [*args, "--resume"], launcher)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "run/last_checkpoint").read_text() == "model_final.pth"
