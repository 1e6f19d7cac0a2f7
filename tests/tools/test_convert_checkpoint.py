"""Tests tools/convert_checkpoint.py and tools/remove_solver_states.py."""

import os
import pickle

import pytest
import torch
import torchvision
from helpers_run import call_tool

from dynamic_atss.modeling.backbones import ResNet


class Evil:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


@pytest.fixture
def body(tmp_path):
    state = {f"backbone.body.{k}": v for k, v in ResNet(18).state_dict().items()}
    content = {"format": "dynamic_atss/1", "classes": ["a"], "model": state, "optimizer": {}}
    torch.save(content, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def test_a_file_is_converted_and_reported(body, tmp_path, monkeypatch, capsys):
    args = [body, tmp_path / "new" / "b.pth", "--to", "published", "--strip"]
    assert call_tool(monkeypatch, "convert_checkpoint", args) == 0
    out = capsys.readouterr().out
    assert "read: dynamic_atss checkpoint" in out and " MB" in out
    got = torch.load(tmp_path / "new/b.pth")
    assert set(got) == {"model", "classes"} and "backbone.body.stem.conv1.weight" in got["model"]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["b.pth"]


@pytest.fixture
def refused(monkeypatch, capsys):
    def check(*args):
        assert call_tool(monkeypatch, "convert_checkpoint", args) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        return error

    return check


def test_nothing_is_overwritten_without_the_option(body, tmp_path, refused, monkeypatch):
    other = tmp_path / "b.pth"
    other.write_text("precious")
    assert "--overwrite" in refused(body, other, "--to", "project")
    assert other.read_text() == "precious"
    before = body.read_bytes()
    (tmp_path / "link.pth").symlink_to(body)
    for same in (body, tmp_path / "link.pth"):
        assert "is the input file" in refused(body, same, "--to", "published", "--overwrite")
    assert body.read_bytes() == before
    args = [body, other, "--to", "project", "--overwrite"]
    assert call_tool(monkeypatch, "convert_checkpoint", args) == 0
    assert "model" in torch.load(other)


def test_mistakes(body, tmp_path, refused):
    out = tmp_path / "b.pth"
    assert "choose from" in refused(body, out, "--to", "onnx")
    assert "no such weight file" in refused(tmp_path / "absent.pth", out, "--to", "project")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": Evil(tmp_path / "trace")}))
    assert "refused" in refused(tmp_path / "evil.pth", out, "--to", "project")
    torch.save({"model": Evil(tmp_path / "trace")}, tmp_path / "evil2.pth")
    assert "refused" in refused(tmp_path / "evil2.pth", out, "--to", "project")
    (tmp_path / "half.pth").write_bytes(body.read_bytes()[:100_000])
    assert "truncated" in refused(tmp_path / "half.pth", out, "--to", "project")
    assert "cannot be written" in refused(body, "/proc/none/b.pth", "--to", "project")
    assert not out.exists() and not (tmp_path / "trace").exists()


def test_timm_files_both_ways(tmp_path, monkeypatch, refused):
    timm = pytest.importorskip("timm")
    state = timm.create_model("convnext_atto", pretrained=False).state_dict()
    of_timm, of_project, back = (tmp_path / name for name in ("t.pth", "p.pth", "b.pth"))
    torch.save(state, of_timm)
    assert "--body timm/<name>" in refused(of_timm, of_project, "--to", "project")
    body = ["--body", "timm/convnext_atto"]
    to_project = [of_timm, of_project, "--to", "project", *body]
    assert call_tool(monkeypatch, "convert_checkpoint", to_project) == 0
    assert "--body timm/<name>" in refused(of_project, back, "--to", "backbone")
    to_timm = [of_project, back, "--to", "backbone", *body]
    assert call_tool(monkeypatch, "convert_checkpoint", to_timm) == 0
    got = torch.load(back)
    assert got.keys() == state.keys() and all(got[n].equal(v) for n, v in state.items())


@pytest.mark.parametrize("kind", ["project", "published"])
def test_remove_solver_states_as_in_the_releases(body, tmp_path, monkeypatch, capsys, kind):
    path = tmp_path / "model_final.pth"
    args = [body, path, "--to", kind]
    assert call_tool(monkeypatch, "convert_checkpoint", args) == 0
    content = torch.load(path) | {"optimizer": {"a": 1}, "scheduler": {}, "iteration": 90000}
    torch.save(content, path)
    assert call_tool(monkeypatch, "remove_solver_states", [path]) == 0
    out = tmp_path / "model_final_wo_solver_states.pth"
    assert f"is saved to {out}" in capsys.readouterr().out
    got = torch.load(out)
    assert set(got) == {"model", "classes"} | ({"format"} if kind == "project" else set())
    assert all(got["model"][k].equal(v) for k, v in content["model"].items())
    assert call_tool(monkeypatch, "remove_solver_states", [path]) == 2
    assert "exists already" in capsys.readouterr().err
    assert call_tool(monkeypatch, "remove_solver_states", [path, "--overwrite"]) == 0


def test_remove_solver_states_of_another_file(tmp_path, monkeypatch, capsys):
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "r.pth")
    assert call_tool(monkeypatch, "remove_solver_states", [tmp_path / "r.pth"]) == 2
    assert "is a torchvision backbone" in capsys.readouterr().err
