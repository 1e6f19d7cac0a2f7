"""Forks Python programs from a process that has imported torch. helpers_fork.py starts it.

A request is a JSON object of one message, an answer a number or null:
{"args", "env", "cwd", "session"} with the file descriptors of stdout and stderr -> the program's
process id; {"pid"} -> the exit status of that program, null as long as it runs.
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
INTERRUPT = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background
PROCESSES, RESTARTS = "--nproc-per-node", "--max-restarts"  # of torchrun and of tools/launch.py

Request = tuple[dict[str, Any], list[int]]  # with the file descriptors of stdout and stderr


def receive(peer: socket.socket) -> Request:
    """The next request; ends this process when the other side has gone."""
    message, files, _, _ = socket.recv_fds(peer, 1 << 20, 2)
    if not message:
        os._exit(0)
    return json.loads(message), files


def serve(peer: socket.socket) -> Request:
    """Answers until the other side has gone. Returns in each fork, with its request."""
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
    """As subprocess has it: minus the number of the signal that ended the program."""
    found, ended = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(ended) if found else None


def become(request: dict[str, Any], files: Sequence[int]) -> None:
    """Makes this process what `python <args>` would be, and runs it."""
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
    if PROCESSES in args and (asked := fork_workers(started_by(args))):
        become(*asked)
    else:
        run(args)


def started_by(args: list[str]) -> int:
    """The number of processes that a launcher starts at most."""
    count, again = (
        int(args[args.index(name) + 1]) if name in args else 0 for name in (PROCESSES, RESTARTS)
    )
    return count * (1 + again)


def seed() -> None:
    """Two programs have nothing random in common, as if each had been started by itself."""
    random.seed()
    sys.modules["numpy"].random.seed()


def run(args: list[str]) -> None:
    """args: a file, or "-m" and a module, with its arguments"""
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

waiting: list[tuple[int, socket.socket]] = []  # process id, and where it waits for its request


def fork_workers(count: int) -> Request | None:
    """A launcher forks the processes that it may start before it does anything else, so that they
    have nothing of it but the imports. Returns in each of them when it is started, with its
    request; None in the launcher. Those that are never started end with it."""
    for _ in range(count):
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if (pid := os.fork()) == 0:
            for _, peer in [*waiting, (0, ours)]:
                peer.close()
            waiting.clear()
            with its:
                return receive(its)
        its.close()
        waiting.append((pid, ours))
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    subprocess_handler.Popen = start  # type: ignore[assignment]
    return None


def start(args: Sequence[str], **named: Any) -> Any:
    """For torchrun's call of subprocess.Popen: the next process that waits. A launcher of several
    machines may start more: those are new."""
    return Worker(args, **named) if waiting else subprocess.Popen(args, **named)


class Worker:
    """What torchrun uses of subprocess.Popen."""

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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end it
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the collector of a fork does not touch, and so copy, what all share
    become(*serve(socket.socket(fileno=int(sys.argv[1]))))
