"""Two machines, network namespaces with a launcher each: one of them has an accident."""

import sys

import pytest
from helpers_run import ROOT, load_module, write_config

sys.path.insert(0, str(ROOT / "benchmarks"))
two_machines = load_module("benchmarks/two_machines.py")

# What happens, how many iterations leave time for it, and what is said on the way.
CASES = {
    "worker-killed": (40, "rank 1 (gpu-b) has ended"),
    "gone-for-good": (40, "1 process(es) go on with a run of 2"),
    "cut-off-and-back": (400, "not heard of for 8 s (SOLVER.TIMEOUT): rank 1 (gpu-b)"),
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    if reason := two_machines.lacking():
        pytest.skip(reason)
    return write_config(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("name", CASES)
def test_the_run_ends_by_itself_with_every_iteration(config, tmp_path, name):
    last, said = CASES[name]
    settings = ["SOLVER.CHECKPOINT_PERIOD", 5, "SOLVER.TIMEOUT", 8, "SOLVER.MAX_ITER", last]
    ended = two_machines.run_case(
        name, [*map(str, [*config, *settings]), "--skip-test"], tmp_path / name
    )
    assert ended.codes == two_machines.CASES[name].codes, ended.said
    assert ended.iterations == list(range(1, last + 1))
    assert said in ended.said and "goes on" in ended.said
