"""Programs of this project in processes of their own, without the four seconds that importing
torch takes: each is a fork of a process that has imported it (fork_server.py).

It has its own arguments, environment, folder, files, signals and end. It shares the seed of its
hashes and the time of its imports with the other programs of one test process: what needs them, a
shell, or a limit set before the start takes subprocess.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

SERVER = Path(__file__).with_name("fork_server.py")
# What torch and the kernels read when they are loaded is as it was before the first test.
AT_START = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
AT_START |= {"PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR"}
AT_START |= {"THP_MEM_ALLOC_ENABLE": "1"}


@cache
def server() -> socket.socket:
    """The connection to the server, which ends with this process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        subprocess.Popen(
            [sys.executable, str(SERVER), str(its.fileno())],
            **{"env": AT_START, "pass_fds": [its.fileno()], "stdin": subprocess.DEVNULL},
            stdout=subprocess.DEVNULL,
        )
    return ours


def ask(request: dict[str, Any], files: Sequence[int] = ()) -> Any:
    """The server's answer."""
    socket.send_fds(server(), [json.dumps(request).encode()], files)
    answer = server().recv(1 << 10)
    assert answer, "the fork server has ended: what it wrote on stderr says why"
    return json.loads(answer)


class Program:
    """What the tests use of subprocess.Popen, for `python <args>`; args: a file or "-m" first."""

    def __init__(
        self,
        args: Sequence[str],
        env: dict[str, str],
        stdout: IO[Any],
        stderr: IO[Any],
        cwd: Path,
        start_new_session: bool = False,
    ) -> None:
        request = {"args": [*args], "env": env, "cwd": str(cwd), "session": start_new_session}
        self.pid: int = ask(request, [stdout.fileno(), stderr.fileno()])
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = ask({"pid": self.pid})
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        """The exit code; fails after `timeout` seconds."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
