"""A checkpoint alone is enough to use the model, and code that it names is not run."""

import shutil

import cv2
import numpy as np
import pytest
import torch
from helpers_run import ROOT, call_tool, write_config

from dynamic_atss.data.orientation import upright
from dynamic_atss.engine.checkpoint import load_checkpoint, save_checkpoint
from dynamic_atss.errors import UserError
from dynamic_atss.inference.restore import restore
from dynamic_atss.yaml_text import load_yaml

CLASSES = ["circle", "square", "triangle", "star", "ring", "cross"]
# Orientation 6: a quarter turn.
EXIF = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06" + 7 * b"\0"


@pytest.fixture
def changed(run, tmp_path):
    """Writes a copy of the run's checkpoint with changed entries. None removes an entry."""

    def write(**entries):
        content = {**load_checkpoint(run / "model_final.pth"), **entries}
        path = tmp_path / "alone.pth"
        save_checkpoint(path, {k: v for k, v in content.items() if v is not None})
        return path

    return write


def test_a_checkpoint_holds_its_configuration_classes_and_frame(run):
    content = load_checkpoint(run / "model_final.pth")
    written = (run / "config.yaml").read_text().splitlines()
    assert content["config"].splitlines() == [x for x in written if "OUTPUT_DIR" not in x]
    assert content["classes"] == CLASSES
    assert content["exif"] == "ignore"  # the catalog's own sets are read as stored


def test_a_file_alone_gives_the_tested_weights(run, tmp_path):
    alone = shutil.copy(run / "model_final.pth", tmp_path / "alone.pth")
    content = load_checkpoint(alone)
    found = restore(alone)
    assert found.class_names == CLASSES and not found.detector.training
    assert found.cfg.MODEL.ATSS.INFERENCE_TH == 0.001
    assert found.reading.exif == "ignore"
    weights = found.detector.state_dict()
    assert all(torch.equal(weights[k], content["model"][k]) for k in weights)
    trained = content["trained_model"]  # the average differs, so that the test can tell them
    assert any(not torch.equal(weights[k], trained[k]) for k in weights)


def test_a_folder_means_its_newest_checkpoint(run):
    assert restore(run).path == run / "model_final.pth"
    assert restore(str(run / "model_0000002.pth")).path == run / "model_0000002.pth"


def test_checkpoints_of_before_take_the_configuration_beside_them(run, changed, tmp_path):
    old = changed(config=None, exif=None)
    with pytest.raises(UserError, match=r"alone.pth: contains no configuration.*--config-fi"):
        restore(old)
    given = restore(old, config_file=run / "config.yaml")
    shutil.copy(run / "config.yaml", tmp_path)
    from_folder = restore(old)
    assert given.cfg == from_folder.cfg and from_folder.reading.exif == "apply"


def test_checkpoints_of_before_resume(run, tiny, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / "run")
    content = load_checkpoint(run / "model_0000004.pth")
    for key in ("config", "exif"):
        del content[key]
    for path in (tmp_path / "run").glob("*.pth"):
        path.unlink()
    save_checkpoint(tmp_path / "run/model_0000004.pth", content)
    (tmp_path / "run/last_checkpoint").write_text("model_0000004.pth")
    args = ["--config-file", run / "config.yaml", "OUTPUT_DIR", tmp_path / "run", "--resume"]
    assert call_tool(monkeypatch, "train_net", [*args, "--skip-test"]) == 0
    resumed = load_checkpoint(tmp_path / "run/model_final.pth")
    complete = load_checkpoint(run / "model_final.pth")
    for key in ("model", "trained_model"):
        assert all(torch.equal(resumed[key][n], complete[key][n]) for n in complete[key])
    assert resumed["exif"] == "ignore" and load_yaml(resumed["config"])["SOLVER"]["MAX_ITER"] == 6


@pytest.mark.parametrize("to", ["project", "published"])
def test_converted_files_keep_it(run, tmp_path, monkeypatch, to):
    args = [run / "model_final.pth", tmp_path / "small.pth", "--to", to, "--strip"]
    assert call_tool(monkeypatch, "convert_checkpoint", args) == 0
    found, complete = restore(tmp_path / "small.pth"), restore(run)
    assert found.class_names == CLASSES and found.cfg == complete.cfg
    weights = complete.detector.state_dict()
    assert all(torch.equal(v, weights[k]) for k, v in found.detector.state_dict().items())


def test_remove_solver_states_keeps_it(run, tmp_path, monkeypatch):
    shutil.copy(run / "model_final.pth", tmp_path / "m.pth")
    assert call_tool(monkeypatch, "remove_solver_states", [tmp_path / "m.pth"]) == 0
    assert restore(tmp_path / "m_wo_solver_states.pth").class_names == CLASSES


def test_a_rule_of_ones_own_is_not_run(run, changed, tmp_path):
    rule = tmp_path / "rule.py"
    rule.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Rule: ...\n")
    text = (
        (run / "config.yaml").read_text().replace("    NAME: ''\n", f"    NAME: {rule}:Rule\n", 1)
    )
    assert load_yaml(text)["MODEL"]["ASSIGNER"]["NAME"] == f"{rule}:Rule"
    found = restore(changed(config=text))
    assert f"{rule}:Rule" == found.cfg.MODEL.ASSIGNER.NAME
    assert restore(changed(config=text), allow_code=True).class_names == CLASSES
    assert not (tmp_path / "ran").exists()


def test_what_a_rule_learns_is_left(tiny, tmp_path, monkeypatch):
    """The checkpoint has the weights of the rule. Prediction does not need the rule's file."""
    rule = shutil.copy(ROOT / "examples/learned_width.py", tmp_path)
    args = ["--config-file", tiny / "tiny.yaml", "DATASETS.ROOT", tiny / "datasets"]
    args += ["MODEL.ASSIGNER.NAME", f"{rule}:LearnedWidth", "SOLVER.MAX_ITER", 1, "--skip-test"]
    assert call_tool(monkeypatch, "train_net", [*args, "OUTPUT_DIR", tmp_path / "run"]) == 0
    (tmp_path / "learned_width.py").unlink()
    content = load_checkpoint(tmp_path / "run/model_final.pth")
    assert any(name.startswith("criterion.") for name in content["model"])
    weights = restore(tmp_path / "run").detector.state_dict()
    assert all(torch.equal(weights[k], content["model"][k]) for k in weights)


def test_a_custom_body_needs_allow_code(run, changed, tmp_path):
    body = tmp_path / "body.py"
    body.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    text = (run / "config.yaml").read_text().replace("R-18-FPN-RETINANET", f"{body}:Body")
    with pytest.raises(UserError, match=r"CONV_BODY .* is code.*allow_code=True"):
        restore(changed(config=text))
    assert not (tmp_path / "ran").exists()
    with pytest.raises(UserError, match="defines no class Body"):
        restore(changed(config=text), allow_code=True)
    assert (tmp_path / "ran").exists()


def test_a_published_checkpoint_works_with_a_config_file(run, tmp_path):
    """It has the keys and layout of the releases, and 80 classes without names."""
    from dynamic_atss.builders import build_model
    from dynamic_atss.config.load import load_config
    from dynamic_atss.weights import to_published

    cfg = load_config(run / "config.yaml")
    path = tmp_path / "release.pth"
    torch.save({"model": to_published(build_model(cfg, 80).state_dict())}, path)
    found = restore(path, config_file=run / "config.yaml")
    assert found.class_names[0] == "person" and len(found.class_names) == 80
    torch.save({"model": to_published(build_model(cfg, 2).state_dict())}, path)
    with pytest.raises(UserError, match=r"contains no class names \(2 classes\).*--names a,b,c"):
        restore(path, config_file=run / "config.yaml")
    named = restore(path, config_file=run / "config.yaml", class_names=["a", "b"])
    assert named.class_names == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL: {ATS_ON: True}", "alone.pth, its configuration: unknown key MODEL.ATS_ON"),
        ("[1, 2]", "expected KEY: VALUE pairs"),
        ("a: [", "not a YAML file"),
    ],
)
def test_a_broken_configuration_is_told(changed, text, message):
    with pytest.raises(UserError, match=message):
        restore(changed(config=text))


def test_no_such_weights(tmp_path, run):
    with pytest.raises(UserError, match=r"nothing.pth: no such weights"):
        restore(tmp_path / "nothing.pth")
    with pytest.raises(UserError, match=r"no checkpoint \(model_\*.pth\)$"):
        restore(ROOT / "docs")
    with pytest.raises(UserError, match=rf"did you mean {run}\?"):
        restore(run.parent)
    with pytest.raises(UserError, match="device 'gpu'"):
        restore(run, device="gpu")


def test_the_frame_of_the_training_set(tmp_path, monkeypatch):
    """Tests a phone's pictures with the upright sizes, and with the sizes of stored pixels."""
    folder = tmp_path / "datasets/shapes"
    args = write_config(tmp_path)
    names = ["SOLVER.MAX_ITER", 1, "--skip-test"]
    for exif in ("apply", "ignore"):
        spec = f"coco:{folder}/annotations/train.json:{folder}/train"
        out = ["DATASETS.TRAIN", spec, "INPUT.EXIF", exif, "OUTPUT_DIR", tmp_path / exif]
        assert call_tool(monkeypatch, "train_net", [*args, *names, *out]) == 0
        assert restore(tmp_path / exif).reading.exif == exif
    again = restore(tmp_path / "ignore", overrides=["INPUT.EXIF", "apply"])
    assert again.reading.exif == "apply"


def test_auto_becomes_what_most_sizes_say(tmp_path):
    from dynamic_atss.data.orientation import ReadOptions, find_orientations

    pixels = np.zeros((20, 30, 3), np.uint8)
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(data[:2] + EXIF + data[2:])
    for given, wanted in (((30, 20), "apply"), ((20, 30), "ignore"), ((0, 0), "apply")):
        frames, _ = find_orientations(
            np.array([given]), tmp_path, ["a.jpg"], ReadOptions(), "x.json"
        )
        assert frames.exif == wanted
    none = np.zeros((0, 2), np.int64)
    assert not len(upright(none, none, np.zeros(0, np.uint8), "auto"))
