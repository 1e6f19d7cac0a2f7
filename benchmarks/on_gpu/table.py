"""Lists the stages, most important first, on a GPU and, with small sizes, on a CPU."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from on_gpu import speed, summary
from on_gpu.runner import Stage

ROOT = Path(__file__).resolve().parents[2]
BASIC = ("environment", "build")
NAMES = (
    *(*BASIC, "test-operators", "test-others"),
    *("train-float32", "train-bfloat16", "train-compiled", "train-deterministic", "train-graphs"),
    *("collectives", "train-processes"),
    *("memcheck", *speed.NAMES, *speed.FLOAT32, "racecheck", "synccheck", "initcheck"),
)
# Names that stand for several stages. Each group alone fits into the default time.
GROUPS = {
    "checks": tuple(name for name in NAMES if name not in (*speed.NAMES, *speed.FLOAT32)),
    "speed": (*BASIC, *speed.NAMES),
    "float32": (*BASIC, *speed.FLOAT32),
}
# The folders of the tests that need a GPU.
OPERATORS = "tests/ops"
TESTED = ("tests/modeling", "tests/assigners", "tests/builders", "tests/engine")
# A few small tests of every kernel, because the sanitizer makes each many times slower.
SMALL_TESTS = (
    "tests/ops/test_nms_batched.py::test_the_kernels_keep_what_the_reference_keeps",
    "tests/ops/test_focal_op.py::test_every_kind_and_dtype",
    "tests/ops/test_focal_op.py::test_sizes",
)


@dataclass(frozen=True)
class Place:
    """Describes the machine and the folders in which stages run.

    Attributes:
        device: "cpu" or "cuda".
        scratch: folder for temporary files.
        kernels: folder of the compiled kernels.
        sanitizer: path of the sanitizer, or None.
        gpus: number of GPUs.
    """

    device: str
    scratch: Path
    kernels: Path
    sanitizer: Path | None
    gpus: int

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"


def stages(place: Place, names: Iterable[str] = NAMES) -> list[Stage]:
    """Returns the stages of `names` by importance, after the stage that describes the machine.

    Args:
        names: stages or groups. If they are all stages, those of speed take the time that is left.
    """
    chosen = {one for name in names for one in GROUPS.get(name, (name,))}
    every = [*_basic(place), *_trainings(place), _sanitizer(place, "memcheck", 100)]
    every += [replace(s, optional=chosen >= {*NAMES}) for s in speed.stages(place)]
    every += [_sanitizer(place, n, 90, optional=True) for n in ("racecheck", "synccheck")]
    every += [_sanitizer(place, "initcheck", 90, optional=True)]
    assert tuple(stage.name for stage in every) == NAMES
    return [stage for stage in every if stage.name in {"environment", *chosen}]


def _module(place: Place, name: str, script: str, *options: object, **more: object) -> Stage:
    """Makes the stage of a script of this folder, which writes its results to a JSON file."""
    found = place.scratch / f"{name}.json"
    command = [sys.executable, "-m", f"on_gpu.{script}", *options, "--json", found]
    given = {"summarize": summary.of_summary, **more}
    return Stage(name, tuple(map(str, command)), found=found, **given)  # type: ignore[arg-type]


def _basic(place: Place) -> list[Stage]:
    build = ("--device", place.device, "--folder", place.kernels)
    others = list(TESTED) if place.on_gpu else ["tests/modeling"]
    return [
        _module(place, "environment", "environment", limit=60),
        _module(place, "build", "build_kernels", *build, limit=200),
        _tests(place, "test-operators", [OPERATORS], ("build",), limit=90),
        _tests(place, "test-others", others, (), limit=140),
    ]


def _tests(
    place: Place, name: str, paths: list[str], needs: tuple[str, ...], limit: float
) -> Stage:
    """Makes a stage of tests for a GPU. A CPU skips most of them, which is no failure."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-rs", "-p", "no:cacheprovider"]
    return Stage(
        name,
        (*command, *paths),
        limit,
        needs=needs,
        ran=summary.passed,
        may_be_empty=not place.on_gpu,
        summarize=summary.of_pytest,
    )


def _trainings(place: Place) -> list[Stage]:
    common = ("--device", place.device, "--folder", place.scratch)
    compiled = ("--compile",) if place.on_gpu else ("--compile", "aot_eager")
    processes = place.gpus if place.on_gpu else 2
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    found = place.scratch / "collectives.json"
    script = ("-m", "on_gpu.collectives", "--device", place.device, "--json", str(found))

    def training(name: str, limit: float, *options: object) -> Stage:
        return _module(place, name, "short_training", *common, *options, limit=limit, min_left=20)

    graphs = training("train-graphs", 120, *compiled, "--graphs", "--beside", "train-float32")
    graphs = replace(graphs, absent="" if place.on_gpu else "on a GPU only")
    return [
        training("train-float32", 100, "--resume"),
        training("train-bfloat16", 80, "--dtype", "bfloat16"),
        training("train-compiled", 120, *compiled, "--beside", "train-float32"),
        training("train-deterministic", 80, "--resume", "--deterministic"),
        graphs,
        Stage(
            "collectives",
            (sys.executable, *launch, *script),
            60,
            found=found,
            summarize=summary.of_summary,
        ),
        training("train-processes", 90, "--processes", processes),
    ]


def _sanitizer(place: Place, tool: str, limit: float, optional: bool = False) -> Stage:
    """Makes the stages of the sanitizer.

    The cache of the allocator is off, so that no other tensor's memory follows a tensor. Initcheck
    must see all writes, so it checks all kernels. The other tools check ours.
    """
    command = [str(place.sanitizer), "--tool", tool, "--error-exitcode", "9"]
    command += ["--target-processes", "all", "--report-api-errors", "no"]
    command += [] if tool == "initcheck" else ["--kernel-name", "kns=dynamic_atss"]
    command += [sys.executable, "-m", "pytest", "-m", "cuda", "-rs", "-p", "no:cacheprovider"]
    return Stage(
        tool,
        (*command, *SMALL_TESTS),
        limit,
        min_left=30,
        needs=("build",),
        optional=optional,
        absent="" if place.sanitizer else "no compute-sanitizer here",
        environment={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        ran=summary.passed,
        summarize=summary.of_sanitizer,
    )


def toolkit(environment: Mapping[str, str] | None = None) -> Path | None:
    """Finds the folder of the CUDA toolkit for the kernels.

    Runs in a subprocess, because importing setuptools changes its process.
    """
    code = "import runpy; print(runpy.run_path('setup.py')['find_toolkit']() or '')"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    return Path(done.stdout.strip()) if done.returncode == 0 and done.stdout.strip() else None


def find_sanitizer(environment: Mapping[str, str] | None = None) -> Path | None:
    """Finds the sanitizer on the PATH or in the CUDA toolkit."""
    on_path, folder = shutil.which("compute-sanitizer"), toolkit(environment)
    below = ("bin/compute-sanitizer", "compute-sanitizer/compute-sanitizer")
    places = [Path(on_path)] if on_path else []
    places += [folder / name for name in below] if folder else []
    return next((place for place in places if place.is_file()), None)
