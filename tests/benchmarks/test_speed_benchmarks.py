"""The benchmarks of speed measure tiny sizes, count what they should, and lose no row by errors."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from dynamic_atss.types import Batch, GroundTruth

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPTS = [
    *(path.stem for path in sorted(FOLDER.glob("*.py"))),
    *(f"on_gpu.{path.stem}" for path in sorted((FOLDER / "on_gpu").glob("[a-z]*.py"))),
]
TINY = ["--size", "32", "32", "--quick"]


def arguments(name, *more):
    module, common = importlib.import_module(name), importlib.import_module("common")
    parser = common.parser("", getattr(module, "arguments", None))
    return module, parser.parse_args(["--seconds", "0", *more])


def a_row(stage, case, device="cuda", **numbers):
    common = importlib.import_module("common")
    return common.Row(stage, case, 1.0, device=device, numbers=numbers).to_dict()


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_can_be_imported(name):
    importlib.import_module(name)


@pytest.mark.parametrize(
    "limit, start, step", [(1, 16, 1), (5, 4, 1), (16, 16, 8), (77, 16, 1), (77, 16, 8)]
)
def test_the_largest_batch_is_found_by_doubling_and_halving(limit, start, step):
    largest = importlib.import_module("largest_batch").largest_batch
    tried, forgotten = [], []

    def attempt(images):
        tried.append(images)
        if images > limit:
            raise torch.OutOfMemoryError("no memory")

    found = largest(attempt, lambda: forgotten.append(tried[-1]), start, step)
    assert found <= limit < found + (step if limit >= start else 1)
    assert forgotten == [images for images in tried if images > limit]
    assert len(set(tried)) == len(tried) < 12


def test_the_largest_batch_tells_other_errors_and_has_an_end():
    largest = importlib.import_module("largest_batch").largest_batch

    def raises(error):
        def attempt(images):
            raise error

        return attempt

    with pytest.raises(RuntimeError, match="not a number"):
        largest(raises(RuntimeError("not a number")), lambda: None, 4)
    for error in (torch.OutOfMemoryError("no"), RuntimeError("CUDNN_STATUS_ALLOC_FAILED")):
        with pytest.raises(torch.OutOfMemoryError, match="not even one"):
            largest(raises(error), lambda: None, 4)
    assert largest(lambda images: None, lambda: None, 4, most=40) in range(33, 41)


def test_copies_and_waits_are_counted_by_the_names_of_events():
    transfers = importlib.import_module("transfers")
    names = [
        *("Memcpy HtoD (Pinned -> Device)", "Memcpy HtoD (Pageable -> Device)"),
        *("Memcpy DtoD (Device -> Device)", "Memcpy DtoH (Device -> Pageable)"),
        *("cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize"),
        # The call on the host of a copy that is counted, and what is neither copy nor wait.
        *("cudaMemcpyAsync", "aten::copy_", "cudaStreamWaitEvent", "Memset (Device)"),
    ]
    found = transfers.count_transfers([(name, 0.5 * i) for i, name in enumerate(names)])
    assert found == {"to_device": 2, "to_host": 1, "on_device": 1, "waits": 3}
    assert set(transfers.count_transfers([]).values()) == {0}
    assert "2 copies to the device (goal 1), 3 waits (goal 1)" in transfers.noted(found)


def test_the_peak_is_known_for_some_gpus():
    peak_of = importlib.import_module("peaks").peak_of
    assert peak_of("NVIDIA H100 80GB HBM3", "bfloat16") == 989
    assert peak_of("NVIDIA H200", "float32") == 494.7
    others = ("NVIDIA H100 PCIe", "NVIDIA H200 NVL", "NVIDIA GH200 480GB", "NVIDIA A100-SXM4-80GB")
    assert [peak_of(name, "bfloat16") for name in others] == [None] * 4
    assert peak_of("NVIDIA H200", "float64") is None


def test_rates_of_a_gpu_have_their_share_of_the_peak(monkeypatch):
    detectors = importlib.import_module("detectors")
    monkeypatch.setattr(detectors, "peak_of_gpu", lambda dtype: {"bfloat16": 100.0}.get(dtype))
    row = {**a_row("s", "c"), "ours_s": 0.5, "peer_s": 2.0, "peer": "torchvision FCOS"}
    found = detectors.with_rate(row, 10, tflop=1.5, dtype="bfloat16")
    assert found["numbers"] == {
        **{"images_per_second": 20, "peer_images_per_second": 5},
        **{"tflop_per_image": 1.5, "tflops": 30, "share_of_peak": 0.3},
    }
    assert "ours 20, torchvision 5 images/s" in found["note"] and "30% of the peak" in found["note"]
    unknown = detectors.with_rate({**row, "peer_s": None}, 10, tflop=1.5, dtype="float32")
    assert "share_of_peak" not in unknown["numbers"] and unknown["note"].startswith("20 images/s")
    on_cpu = detectors.with_rate({**row, "device": "cpu"}, 10, tflop=1.5, dtype="float32")
    assert on_cpu["note"] == "ours 20, torchvision 5 images/s"


def test_the_goals_of_a_gpu():
    goals = importlib.import_module("on_gpu.goals")
    step = "16 x 800 x 1344, bfloat16, channels-last"
    rows = [
        a_row("whole train step", step, images_per_second=200.0),
        a_row("whole train step", f"{step}, compiled", images_per_second=250.0),
        a_row("whole train step", "16 x 800 x 1344, float32", images_per_second=900.0),
        a_row("whole inference", step, images_per_second=900.0),
        a_row("copies and waits in each, x", "train step", to_device=1.0, waits=1.5),
        a_row("copies and waits in each, x", "inference", to_device=9.0, waits=9.0),
        a_row("focal losses", "a", share_of_copy=0.9),
        a_row("focal losses", "b", share_of_copy=0.65),
        a_row("focal losses", "c", "cpu", share_of_copy=0.1),
        a_row("NMS", "a", times_peer=2.5),
        a_row("scores", "beside", "host", images=5000, lost_beside=0.4),
        a_row("scores", "beside", "host", images=100, lost_beside=3.0),
    ]
    lines = goals.markdown(rows, "NVIDIA H100 80GB HBM3").splitlines()
    for parts in (
        ("images/s", "at least 240", "250", "| met", "detectors-compiled"),
        ("images/s", "at least 281", "250", "not met"),
        ("copies to the device", "at most 1", "| 1 |", "| met"),
        ("waits", "at most 1", "1.5", "not met"),
        ("focal", "at least 70%", "65%", "not met"),
        ("NMS", "at least 2 x", "2.5 x", "| met | nms |"),
        ("TEST.ASYNC", "at most 1.00 s", "0.40 s", "| met | scoring |"),
        ("not convolution", "at most 10.0%", "| - | not measured | stages |"),
    ):
        assert any(all(part in line for part in parts) for line in lines), parts
    assert "not convolution" in lines[-1]  # those without a measurement are last
    assert "at least 290" in goals.markdown(rows, "NVIDIA H200")
    assert "images/s" not in goals.markdown(rows, "NVIDIA A100-SXM4-80GB")
    listed = goals.listed(rows, "NVIDIA H200")
    assert listed[0] == {
        **{"goal": "train step, bfloat16, best form: images/s", "wanted": "at least 290"},
        **{"measured": 250.0, "met": False, "stage": "detectors-bfloat16, detectors-compiled"},
    }
    on_cpu = goals.listed([a_row("NMS", "a", "cpu", times_peer=2.5)], "")
    assert len(on_cpu) == 6 and all(goal["measured"] is goal["met"] is None for goal in on_cpu)


def test_the_stages_of_the_goals_exist():
    goals, speed = importlib.import_module("on_gpu.goals"), importlib.import_module("on_gpu.speed")
    for goal in goals.goals("NVIDIA H100"):
        assert set(goal.stage.split(", ")) <= {*speed.NAMES}


def test_a_gpu_adds_the_goals_of_operators():
    focal, nms = importlib.import_module("focal"), importlib.import_module("nms")
    row = focal.with_bandwidth({**a_row("focal", "c"), "limit_s": 0.8})
    assert row["numbers"] == {"share_of_copy": 0.8} and "80% of the copy's" in row["note"]
    found = nms.with_goal([{**a_row("NMS", "c"), "ratio": ratio} for ratio in (2.5, 1.5)])
    assert [row["numbers"] for row in found] == [{"times_peer": 1.5}] * 2


def test_a_rung_that_fails_is_left_out_of_the_next_ones():
    module, args = arguments("ladder", "--batch", "4")
    made = []

    def make(means):
        made.append(means)
        if means.channels_last:
            raise torch.OutOfMemoryError("no memory")
        return lambda: None

    rungs = ["start", "uint8", "channels-last", "bfloat16"]
    seconds = iter([4.0, 2.0, 1.0])
    rows = list(module.climb(rungs, make, lambda step: (next(seconds), 7.0), args))
    assert [row["ratio"] for row in rows] == [None, 2.0, None, 2.0]
    assert [row["failed"] for row in rows] == [False, False, True, False]
    assert "OutOfMemoryError: no memory" in rows[2]["note"]
    assert made[3].uint8 and made[3].dtype == "bfloat16" and not made[3].channels_last
    assert rows[3]["numbers"] == {"images_per_second": 4.0} and rows[3]["ours_mb"] == 7.0


@pytest.mark.slow
def test_the_ladder_on_a_cpu(monkeypatch):
    rungs = ["start", "uint8", "fused-loss", "foreach", "fused-optimizer", "compiled", "graphs"]
    module, args = arguments("ladder", *TINY, "--rungs", *rungs)
    monkeypatch.setattr(module, "CONFIG", "configs/quickstart/shapes_R_18.yaml")
    args.size = (96, 96)
    rows = list(module.rows(args))
    assert [row["case"] for row in rows] == [module.SAID[rung] for rung in rungs[:5]]
    assert all(row["ours_s"] > 0 and not row["failed"] for row in rows)


@pytest.mark.slow
def test_the_rungs_of_the_loss_and_the_pixels_change_no_loss():
    module, args = arguments("ladder", *TINY, "--rungs", "start")
    args.batch, args.size = 2, (64, 64)
    losses = []
    for changes in ({}, {"uint8": True}, {"fused_loss": True}):
        torch.manual_seed(0)
        step = module.TrainStep(module.Means(**changes), args)
        terms = step.model(step.batch).losses
        losses.append({name: value.item() for name, value in terms.items()})
    assert losses[0]["loss_cls"] > 0
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.slow
def test_a_form_that_fails_leaves_the_others(monkeypatch):
    module, args = arguments("detectors", *TINY, "--forms", "compiled", "plain")
    built = module.ours

    def ours(args, overrides):
        if overrides:
            raise RuntimeError("the compiler found\nno device")
        return built(args)

    monkeypatch.setattr(module, "ours", ours)
    monkeypatch.setattr(module, "PEERS", ("FCOS",))
    failed, *rows = module.rows(args)
    assert failed["failed"] and failed["case"].endswith(", compiled")
    assert failed["note"] == "failed: RuntimeError: the compiler found"
    assert len(rows) == 2 and all(row["ratio"] > 0 and not row["failed"] for row in rows)
    assert {row["peer"] for row in rows} == {"torchvision FCOS"}
    assert all(row["numbers"]["images_per_second"] == 1 / row["ours_s"] for row in rows)


@pytest.mark.slow
def test_the_largest_batch_of_each_detector(monkeypatch):
    module, args = arguments("detectors", *TINY, "--largest")
    monkeypatch.setattr(module, "ON_CPU", 1)
    monkeypatch.setattr(module, "PEERS", ("FCOS",))
    rows = list(module.rows(args))
    assert [row["case"].split(":")[0] for row in rows] == ["ours", "ours", "FCOS", "FCOS"]
    assert all(row["numbers"]["images"] == 1 and not row["failed"] for row in rows)


@pytest.mark.slow
def test_decoding_compares_with_the_rate():
    module, args = arguments("decoding", "--quick", "--short", "40", "--rate", "1e-3")
    args.workers = [0, 1]
    rows = list(module.rows(args))
    assert [row["device"] for row in rows] == ["host", "host"]
    assert all("keeps ahead of 0.001" in row["note"] for row in rows)
    assert "does not keep" in module.row("c", 2.0, arguments("decoding")[1], "host")["note"]


def test_stages_pin_batches_as_the_loader_does(monkeypatch):
    stages = importlib.import_module("stages")
    number = torch.zeros(1, dtype=torch.int64)
    gt = GroundTruth(torch.ones(1, 4), number, number)
    batch = Batch(torch.ones(1, 3, 2, 2).byte(), torch.ones(1, 2).long(), gt, (0,), ((2, 2),))
    if not torch.cuda.is_available():  # pinned memory needs a GPU
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: x)
        empty = torch.empty
        monkeypatch.setattr(
            torch, "empty", lambda *a, pin_memory=False, **options: empty(*a, **options)
        )
    found = stages.pinned(batch)
    assert torch.equal(found.images, batch.images) and torch.equal(found.gt.boxes, gt.boxes)


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_rows_of_the_profiler():
    """On a CPU nothing is copied to a device; the shares are those of made-up kernels."""
    stages, args = arguments("stages", *TINY)
    args, lengths = stages.filled(args), []

    def loop(steps):
        lengths.append(steps)
        sum(range(100_000 * steps))

    row = stages.transfers("train step", loop, args)
    assert lengths == [args.steps, 2 * args.steps] and row["case"] == "train step"
    assert row["numbers"] == {"to_device": 0, "to_host": 0, "on_device": 0, "waits": 0}
    seconds = stages.Counter({"convolutions": 80.0, "losses": 20.0})  # more than the wall time
    row = stages.not_convolution("train step", loop, seconds, args)
    assert row["numbers"]["not_convolution"] == pytest.approx(0.2) and "20.0%" in row["note"]


def test_a_batch_repeated():
    steps = importlib.import_module("detector_steps")
    batch = steps.scene(2, (32, 48), 3)
    found = steps.repeated(batch, 5)
    assert found.images.shape == (5, 3, 32, 48) and found.sizes.tolist() == [[32, 48]] * 5
    assert torch.equal(found.images[4], batch.images[0])
    for n in range(5):
        here, there = found.gt.image_index == n, batch.gt.image_index == n % 2
        assert torch.equal(found.gt.boxes[here], batch.gt.boxes[there]) and here.sum() == 3
        assert torch.equal(found.gt.classes[here], batch.gt.classes[there])
    assert torch.equal(steps.repeated(batch, 1).images, batch.images[:1])


def test_rows_before_a_failure_are_written(tmp_path, monkeypatch, capsys):
    common = importlib.import_module("common")
    path = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["x", "--json", str(path)])
    good = a_row("stage", "good", "cpu")

    def rows(args):
        yield good
        yield common.failed_row("stage", "bad", ValueError("no luck"), "cpu")

    with pytest.raises(SystemExit, match="1"):
        common.main("", rows)
    written = json.loads(path.read_text())
    assert [row["failed"] for row in written] == [False, True]
    assert "failed: ValueError: no luck" in capsys.readouterr().out

    def killed(args):
        yield good
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        common.main("", killed)
    assert [row["case"] for row in json.loads(path.read_text())] == ["good"]
