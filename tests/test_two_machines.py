"""Tests two machines, which are network namespaces with a launcher each: a process is killed.

`benchmarks/two_machines.py` tests faults that take minutes: a machine that is cut off or lost.
"""

import sys

import pytest
from helpers_run import ROOT, load_module, write_config

pytestmark = pytest.mark.slow

sys.path.insert(0, str(ROOT / "benchmarks"))
two_machines = load_module("benchmarks/two_machines.py")

LAST = 40  # iterations, which give enough time for the fault


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    if reason := two_machines.lacking():
        pytest.skip(reason)
    return write_config(tmp_path_factory.mktemp("tiny"))


def test_the_run_recovers_and_has_every_iteration(config, tmp_path):
    settings = ["SOLVER.CHECKPOINT_PERIOD", 5, "SOLVER.TIMEOUT", 8, "SOLVER.MAX_ITER", LAST]
    ended = two_machines.run_case(
        "worker-killed", [*map(str, [*config, *settings]), "--skip-test"], tmp_path / "run"
    )
    assert ended.codes == two_machines.CASES["worker-killed"].codes, ended.messages
    assert ended.iterations == list(range(1, LAST + 1))
    assert (
        "rank 1 (gpu-b) has ended" in ended.messages and "--resume continues from" in ended.messages
    )
