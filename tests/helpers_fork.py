"""Starts programs of this project in new processes, without the four seconds of importing torch.

Each program is a fork of a process that has imported it (fork_server.py). It has its arguments,
environment, folder, files and signals like a normal process. But all programs of a test process
share the hash seed and the imports. A test that depends on these, on a shell, or on a limit that is
set before the start uses subprocess.
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
# The variables that torch and the kernels read when they are loaded.
AT_START = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
AT_START |= {"PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR"}
AT_START |= {"THP_MEM_ALLOC_ENABLE": "1"}


@cache
def server() -> socket.socket:
    """Starts the server, and gives the connection to it. The server ends with this process."""
    connection, server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with server_end:
        subprocess.Popen(
            [sys.executable, str(SERVER), str(server_end.fileno())],
            env=AT_START,
            pass_fds=[server_end.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return connection


def ask(request: dict[str, Any], files: Sequence[int] = ()) -> Any:
    """Sends a request to the server, and returns the answer."""
    socket.send_fds(server(), [json.dumps(request).encode()], files)
    answer = server().recv(1 << 10)
    assert answer, "the fork server has ended: what it wrote on stderr says why"
    return json.loads(answer)


class Program:
    """Starts `python <args>`, with the part of subprocess.Popen that the tests use.

    Args:
        args: a file, or "-m" and a module, and the arguments.
    """

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
        """Waits for the exit code; raises TimeoutExpired after `timeout` seconds."""
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
