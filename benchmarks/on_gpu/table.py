"""The stages, most important first, on a GPU and, small, on a CPU."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from on_gpu import summary
from on_gpu.runner import Stage

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    *("environment", "build", "test-operators", "test-others"),
    *("train-float32", "train-bfloat16", "train-compiled", "collectives", "train-processes"),
    *("memcheck", "focal", "nms", "rules", "detectors-bfloat16", "detectors-float32"),
    *("stages", "assignment", "detectors-compiled", "racecheck", "synccheck", "initcheck"),
)
# Few, small and of every kernel: under the sanitizer each takes many times as long.
SMALL_TESTS = (
    "tests/ops/test_nms_batched.py::test_the_kernels_keep_what_the_reference_keeps",
    "tests/ops/test_focal_op.py::test_every_kind_and_dtype",
    "tests/ops/test_focal_op.py::test_sizes",
)


@dataclass(frozen=True)
class Place:
    """Where all runs. scratch: a folder for what is only needed meanwhile · sanitizer: its path, or
    None · gpus: how many"""

    device: str
    scratch: Path
    kernels: Path
    sanitizer: Path | None
    gpus: int

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"


def stages(place: Place, names: Iterable[str] = NAMES) -> list[Stage]:
    """Those of `names`, in the order of importance; before them what says which machine it is."""
    every = [*_basic(place), *_trainings(place), _sanitizer(place, "memcheck", 100)]
    every += _benchmarks(place)
    every += [_sanitizer(place, n, 90, optional=True) for n in ("racecheck", "synccheck")]
    every += [_sanitizer(place, "initcheck", 90, optional=True)]
    assert tuple(stage.name for stage in every) == NAMES
    return [stage for stage in every if stage.name in {"environment", *names}]


def _module(place: Place, name: str, script: str, *options: object, **more: object) -> Stage:
    """A script of this folder, which writes its results to a JSON file."""
    found = place.scratch / f"{name}.json"
    command = [sys.executable, "-m", f"on_gpu.{script}", *options, "--json", found]
    given = {"tell": summary.of_summary, **more}
    return Stage(name, tuple(map(str, command)), found=found, **given)  # type: ignore[arg-type]


def _basic(place: Place) -> list[Stage]:
    build = ("--device", place.device, "--folder", place.kernels)
    others = ["tests/assigners", "tests/modeling"] if place.on_gpu else ["tests/modeling"]
    return [
        _module(place, "environment", "environment", limit=60),
        _module(place, "build", "build_kernels", *build, limit=200),
        _tests("test-operators", ["tests/ops"], ("build",), limit=100),
        _tests("test-others", others, (), limit=120),
    ]


def _tests(name: str, paths: list[str], needs: tuple[str, ...], limit: float) -> Stage:
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-rs", "-p", "no:cacheprovider"]
    return Stage(name, (*command, *paths), limit, needs=needs, tell=summary.of_pytest)


def _trainings(place: Place) -> list[Stage]:
    common = ("--device", place.device, "--folder", place.scratch)
    compiled = ("--compile",) if place.on_gpu else ("--compile", "aot_eager")
    processes = place.gpus if place.on_gpu else 2
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    found = place.scratch / "collectives.json"
    script = ("-m", "on_gpu.collectives", "--device", place.device, "--json", str(found))

    def training(name: str, limit: float, *options: object) -> Stage:
        return _module(place, name, "short_training", *common, *options, limit=limit, least=20)

    return [
        training("train-float32", 100, "--resume"),
        training("train-bfloat16", 80, "--dtype", "bfloat16"),
        training("train-compiled", 150, *compiled),
        Stage(
            *("collectives", (sys.executable, *launch, *script), 60),
            **{"found": found, "tell": summary.of_summary},  # type: ignore[arg-type]
        ),
        training("train-processes", 90, "--processes", processes),
    ]


def _sanitizer(place: Place, tool: str, limit: float, optional: bool = False) -> Stage:
    """The allocator's cache is off, so that what lies behind a tensor is nobody's memory. Initcheck
    has to see who writes what, so it looks at all kernels; the others at ours."""
    command = [str(place.sanitizer), "--tool", tool, "--error-exitcode", "9"]
    command += ["--target-processes", "all", "--report-api-errors", "no"]
    command += [] if tool == "initcheck" else ["--kernel-name", "kns=dynamic_atss"]
    command += [sys.executable, "-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider"]
    return Stage(
        *(tool, (*command, *SMALL_TESTS), limit),
        **{"least": 30, "needs": ("build",), "optional": optional},  # type: ignore[arg-type]
        absent="" if place.sanitizer else "no compute-sanitizer here",
        environment={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        tell=summary.of_sanitizer,
    )


def _benchmarks(place: Place) -> list[Stage]:
    """On a CPU sizes of a toy, to see that all runs."""
    gpu = place.on_gpu
    seconds = ("--seconds", "1" if gpu else "0")
    whole = ("--size", "800", "800", "--batch", "16") if gpu else ("--size", "64", "64")
    rules = ("--boxes", "100", "--batch", "16") if gpu else ("--boxes", "3", "--batch", "1")
    focal = () if gpu else ("--batch", "1", "--priors", "200")
    nms = () if gpu else ("--candidates", "100", "--batch", "1")
    some = ("--boxes", "10", "100", "--batch", "1") if gpu else ("--boxes", "3", "--batch", "1")
    some += ("--rules", "dynamic_atss", "atss", "max_iou", "fcos")

    def script(name: str, file: str, limit: float, *options: str, least: float = 20) -> Stage:
        found = place.scratch / f"{name}.json"
        command = (sys.executable, str(ROOT / f"benchmarks/{file}.py"), "--json", str(found))
        command += ("--device", place.device, *seconds, *options)
        return Stage(
            *(name, command, limit, least),
            **{"needs": ("build",) if file in ("focal", "nms") else ()},  # type: ignore[arg-type]
            **{"found": found, "tell": summary.of_rows},  # type: ignore[arg-type]
        )

    compiled = script(
        "detectors-compiled", "detectors", 180, *whole, "--dtype", "bfloat16", "--compile", least=60
    )
    # For a CPU the compiler takes minutes; train-compiled goes the same way without it.
    compiled = replace(compiled, absent="" if gpu else "on a GPU only")
    every_rule = ("--device", place.device, *seconds, *rules)
    bfloat16, float32 = ("--dtype", "bfloat16"), ("--dtype", "float32")
    # All cores may be used: on a GPU the host only starts kernels.
    return [
        script("focal", "focal", 60, *focal),
        script("nms", "nms", 60, *nms),
        _module(place, "rules", "rules", *every_rule, limit=80, tell=summary.of_rows),
        script("detectors-bfloat16", "detectors", 90, *whole, *bfloat16, "--no-compile"),
        script("detectors-float32", "detectors", 90, *whole, *float32, "--no-compile"),
        script("stages", "stages", 60, *whole, *bfloat16),
        script("assignment", "assignment", 60, *some),
        compiled,
    ]


def toolkit(environment: Mapping[str, str] | None = None) -> Path | None:
    """The folder of the CUDA toolkit that the kernels are compiled with. In a process of its own,
    as setuptools changes the one that it is imported in."""
    code = "import runpy; print(runpy.run_path('setup.py')['find_toolkit']() or '')"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    return Path(done.stdout.strip()) if done.returncode == 0 and done.stdout.strip() else None


def find_sanitizer(environment: Mapping[str, str] | None = None) -> Path | None:
    """On the PATH, or in the CUDA toolkit."""
    on_path, folder = shutil.which("compute-sanitizer"), toolkit(environment)
    below = ("bin/compute-sanitizer", "compute-sanitizer/compute-sanitizer")
    places = [Path(on_path)] if on_path else []
    places += [folder / name for name in below] if folder else []
    return next((place for place in places if place.is_file()), None)
