"""Tests a training on two machines that loses a process, a link or a machine.

python benchmarks/two_machines.py --config-file <a small configuration> [--case NAME ...]
    [--work-dir output/two_machines] [KEY VALUE ...]

The machines are two network namespaces (see `namespaces.py`), with one launcher and one process
each. Each training meets a fault after its tenth iteration, and must end by itself. Prints the exit
codes of the launchers, the seconds, the number of iterations, and the messages of the processes.
The exit code is 1 if a training ends in a wrong way.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
from namespaces import Machine, lacking, processes_of, two_machines

from dynamic_atss import cli
from dynamic_atss.files import read_metrics

ROOT = Path(__file__).resolve().parents[1]
PORT = 29511  # of the rendezvous, on the first machine
# Torchrun waits half a minute for additional machines, and for a silent one, too.
SOON = "last_call_timeout=4,keep_alive_interval=1,keep_alive_max_attempt=4,join_timeout=120"
AWAY = 15.0  # seconds that a machine is cut off
LONGEST = 300.0  # seconds that a case may take
_INFORMATIVE = ("error: ", "rank ", "restarted by", "Resuming", "resumed with", "SIGTERM")


class Case(NamedTuple):
    """Describes a fault and the end that is expected.

    Attributes:
        nodes: argument of torchrun.
        happens: causes the fault.
        codes: expected exit codes of the launchers.
    """

    nodes: str
    happens: Callable[[Training], None]
    codes: tuple[int, int]


class Training:
    """Runs one training on two machines; `close` ends it."""

    def __init__(
        self, machines: Sequence[Machine], args: Sequence[str], folder: Path, nodes: str
    ) -> None:
        """Starts a launcher on each machine.

        Args:
            machines: the two machines.
            args: arguments of tools/train_net.py.
            folder: folder for OUTPUT_DIR and the machines' output.
            nodes: argument of torchrun.
        """
        self.machines, self.folder, self.output = machines, folder, folder / "run"
        self._command = [
            *(sys.executable, str(ROOT / "tools/launch.py"), "--nnodes", nodes),
            *("--nproc-per-node", "1", "--max-restarts", "3", "--rdzv-backend", "c10d"),
            *("--rdzv-endpoint", f"{machines[0].name}:{PORT}", "--rdzv-id", folder.name),
            *("--rdzv-conf", SOON, str(ROOT / "tools/train_net.py"), *args),
            *("OUTPUT_DIR", str(self.output)),
        ]
        self.launchers = [self._start(machine) for machine in machines]

    def _start(self, machine: Machine) -> subprocess.Popen[bytes]:
        variables = {"GLOO_SOCKET_IFNAME": machine.name, "CUDA_VISIBLE_DEVICES": ""}
        with open(self.folder / f"{machine.name}.log", "ab") as log:
            return subprocess.Popen(
                machine.command(self._command),
                env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
                stdout=log,
                stderr=log,
            )

    def lines(self) -> list[dict[str, Any]]:
        return read_metrics(self.output / "metrics.jsonl")

    def until(self, reached: Callable[[], bool]) -> None:
        """Waits until `reached()`. Raises TimeoutError if that takes too long."""
        end = time.monotonic() + LONGEST
        while not reached():
            if time.monotonic() > end:
                raise TimeoutError(self.folder)
            time.sleep(0.05)

    def codes(self) -> tuple[int | None, ...]:
        return tuple(launcher.poll() for launcher in self.launchers)

    def worker(self, machine: int) -> int:
        """Returns the training process of a machine."""
        return processes_of(self.launchers[machine].pid)[0]

    def messages(self) -> str:
        """Returns the informative lines of the output of the machines."""
        texts = []
        for machine in self.machines:
            log = (self.folder / f"{machine.name}.log").read_text(errors="replace")
            lines = [x for x in log.splitlines() if any(word in x for word in _INFORMATIVE)]
            texts += [f"{machine.name}: {line}" for line in lines]
        return "\n".join(texts)

    def close(self) -> None:
        for launcher in self.launchers:
            for process in [launcher.pid, *processes_of(launcher.pid, below=True)]:
                end(process, signal.SIGKILL)
            launcher.wait()


def end(process: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, how)


def _kill_worker(training: Training) -> None:
    end(training.worker(1), signal.SIGKILL)


def _stop_worker(training: Training) -> None:
    end(training.worker(1), signal.SIGSTOP)


def _cut(training: Training) -> None:
    training.machines[1].link("down")
    time.sleep(AWAY)
    training.machines[1].link("up")


def _remove(training: Training, machine: int) -> None:
    launcher = training.launchers[machine].pid
    for process in [launcher, *processes_of(launcher, below=True)]:
        end(process, signal.SIGKILL)


CASES = {
    "worker-killed": Case("2", _kill_worker, (0, 0)),
    "worker-stopped": Case("2", _stop_worker, (0, 0)),
    "cut-off-and-back": Case("1:2", _cut, (0, 0)),
    "gone-for-good": Case("1:2", lambda training: _remove(training, 1), (0, -9)),
    "rendezvous-gone": Case("1:2", lambda training: _remove(training, 0), (-9, 75)),
}


class Ended(NamedTuple):
    """Describes the end of a training.

    Attributes:
        codes: exit codes of the launchers.
        seconds: the duration from the fault to the end.
        iterations: those in metrics.jsonl, in its order.
        messages: the messages of the processes.
    """

    codes: tuple[int | None, ...]
    seconds: float
    iterations: list[int]
    messages: str


def run_case(name: str, args: Sequence[str], folder: Path) -> Ended:
    """Runs a case. Raises TimeoutError if the training does not end by itself."""
    case = CASES[name]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with two_machines(folder) as machines:
        training = Training(machines, [*args, "SOLVER.LOG_PERIOD", "1"], folder, case.nodes)
        try:
            training.until(lambda: len(training.lines()) >= 10)
            begin = time.monotonic()
            case.happens(training)
            training.until(lambda: None not in training.codes())
            seconds = time.monotonic() - begin
            iterations = [line["iteration"] for line in training.lines()]
            return Ended(training.codes(), seconds, iterations, training.messages())
        finally:
            training.close()


def judge(case: Case, ended: Ended) -> tuple[bool, str]:
    """Returns True if the training ended as expected, and a description."""
    last, codes = ended.iterations[-1], ", ".join(map(str, ended.codes))
    once = ended.iterations == list(range(1, last + 1))
    made = f"iterations 1 to {last}, " + ("once each" if once else f"WRONG: {ended.iterations}")
    text = f"exit codes {codes} after {ended.seconds:.1f} s; {made}"
    return once and ended.codes == case.codes, text


def main() -> int:
    parser = cli.config_parser(__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--work-dir", type=Path, default=Path("output/two_machines"))
    args = cli.parse(parser)
    if reason := lacking():
        print(reason)
        return 1
    common = ["--config-file", args.config_file, "--skip-test", *args.opts]
    wrong = 0
    for name in args.case:
        ended = run_case(name, common, args.work_dir / name)
        right, text = judge(CASES[name], ended)
        wrong += not right
        print(f"{name}: {text}\n{ended.messages}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    cli.run(main)
