"""Forks Python programs from a process that has imported torch. helpers_fork.py starts it.

A request is a JSON object in one message. There are two kinds:
{"args", "env", "cwd", "session"} with the file descriptors of stdout and stderr starts a program;
the answer is its process id. {"pid"} asks for the exit status of a program; the answer is null
while it runs.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

PRELOADED = ("dynamic_atss.run", "dynamic_atss.viz.report", "dynamic_atss.viz.assignment")
PRELOADED += ("torch.utils.tensorboard", "torch.distributed.run", "torch._dynamo")
INTERRUPT = signal.getsignal(signal.SIGINT)  # ignored if the tests run in the background
PROCESSES, RESTARTS = "--nproc-per-node", "--max-restarts"  # options of torchrun

Request = tuple[dict[str, Any], list[int]]  # with the file descriptors of stdout and stderr


def receive(peer: socket.socket) -> Request:
    """Receives the next request; ends this process when the other side has closed."""
    message, files, _, _ = socket.recv_fds(peer, 1 << 20, 2)
    if not message:
        os._exit(0)
    return json.loads(message), files


def serve(peer: socket.socket) -> Request:
    """Answers requests until the other side has closed. Returns the request in each fork."""
    while True:
        request, files = receive(peer)
        if "pid" in request:
            answer = status(request["pid"])
        elif (answer := os.fork()) == 0:
            peer.close()
            return request, files
        for file in files:
            os.close(file)
        peer.send(json.dumps(answer).encode())


def status(pid: int) -> int | None:
    """Gives the exit status as subprocess does: -N if signal N ended the program."""
    found, ended = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(ended) if found else None


def become(request: dict[str, Any], files: Sequence[int]) -> None:
    """Turns this process into `python <args>`."""
    if request["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, INTERRUPT)
    for number, file in zip((1, 2), files, strict=True):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    seed()
    args = request["args"]
    if PROCESSES in args and (worker_request := fork_workers(started_by(args))):
        become(*worker_request)
    else:
        run(args)


def started_by(args: list[str]) -> int:
    """Gives the largest number of processes that a launcher starts."""
    count, restarts = (
        int(args[args.index(name) + 1]) if name in args else 0 for name in (PROCESSES, RESTARTS)
    )
    return count * (1 + restarts)


def seed() -> None:
    """Sets new random seeds, because two programs that Python starts have different ones."""
    random.seed()
    sys.modules["numpy"].random.seed()


def run(args: list[str]) -> None:
    """Runs a file, or "-m" and a module, with its arguments."""
    sys.orig_argv = [sys.executable, *args]
    if args[0] == "-u":
        sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
        args = args[1:]
    if args[0] == "-m":
        sys.path[0], sys.argv = os.getcwd(), args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = os.path.dirname(args[0]), args
        runpy.run_path(args[0], run_name="__main__")


# --- the processes of a launcher ----------------------------------------------------------------

waiting: list[tuple[int, socket.socket]] = []  # process id, and the socket on which it waits


def fork_workers(count: int) -> Request | None:
    """Forks all processes that a launcher may start, before it has any state but the imports.

    Returns None in the launcher. Returns the request in each process when it is started. A process
    that is never started ends with the launcher.
    """
    for _ in range(count):
        parent_end, worker_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if (pid := os.fork()) == 0:
            for _, peer in [*waiting, (0, parent_end)]:
                peer.close()
            waiting.clear()
            with worker_end:
                return receive(worker_end)
        worker_end.close()
        waiting.append((pid, parent_end))
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    subprocess_handler.Popen = start  # type: ignore[assignment]
    return None


def start(args: Sequence[str], **named: Any) -> Any:
    """Starts the next process that waits. Replaces subprocess.Popen in torchrun.

    Starts a new process if none waits, because a launcher of several machines may need more.
    """
    return Worker(args, **named) if waiting else subprocess.Popen(args, **named)


class Worker:
    """Provides the part of subprocess.Popen that torchrun uses."""

    def __init__(
        self, args: Sequence[str], env: dict[str, str], start_new_session: bool, **_: Any
    ) -> None:
        self.returncode: int | None = None
        self.pid, peer = waiting.pop(0)
        request = {"args": args[1:], "env": env, "cwd": os.getcwd(), "session": start_new_session}
        with peer:
            socket.send_fds(peer, [json.dumps(request).encode()], [1, 2])

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = status(self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("worker", timeout)
            time.sleep(0.01)
        return code


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests, and they end it
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so a fork's collector does not touch, and thereby copy, shared memory
    become(*serve(socket.socket(fileno=int(sys.argv[1]))))
