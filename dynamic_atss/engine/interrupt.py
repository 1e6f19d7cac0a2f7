"""Handles the signals that ask a process to end.

Each part of the program chooses a handler by `on_signals`. It is `stop_now` where nothing would be
lost. Where work must be finished first, the handler only records the signal.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from dynamic_atss.processes import SIGNALS

STOP_CODES = tuple(128 + number for number in SIGNALS)  # exit codes as in shells
# Two SIGINTs within this time are one press of Ctrl-C: the terminal and a wrapper such as `uv run`
# send one each.
_ONE_PRESS_SECONDS = 0.5

Handler = Callable[..., Any] | signal.Handlers


class Stopped(SystemExit):
    """Says that a signal asked the process to end.

    Attributes:
        exit_code: 128 + the number of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.exit_code = 128 + number
        super().__init__(self.exit_code)
        self.name = signal.Signals(number).name


def stop_now(number: int, *_: Any) -> NoReturn:
    """Raises `Stopped`. After this handler, files are closed and workers are stopped."""
    raise Stopped(number)


def ignore(*_: Any) -> None:
    """Does nothing. With SIG_IGN as the handler, a second SIGINT would not be noticed."""


@contextlib.contextmanager
def on_signals(handler: Handler) -> Iterator[None]:
    """Sets `handler` for the stop signals during the block, and then restores the old handlers.

    After `Stopped`, `ignore` replaces an old handler `stop_now`, because the program ends already.
    An ignored signal stays ignored, for example under nohup and behind a shell's `&`.
    """
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number in SIGNALS if previous[number] is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, handler)
    try:
        yield
    except Stopped:
        previous = {n: ignore if old is stop_now else old for n, old in previous.items()}
        raise
    finally:
        for number in handled:
            signal.signal(number, previous[number])


@contextlib.contextmanager
def second_sigint_ends(on_end: Callable[[int], Any]) -> Iterator[None]:
    """Lets a second SIGINT end the process at once during the block, even in a long computation.

    Python runs its handlers only between two bytecode instructions, and a training step is one
    instruction of many seconds. So a thread reads the socket to which the system's handler writes
    at once.

    Args:
        on_end: is called with the exit code before the process ends.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    previous_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(reader, on_end), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous_fd)
        writer.close()  # ends the thread


def _listen(reader: socket.socket, on_end: Callable[[int], Any]) -> None:
    first = None  # time of the first SIGINT
    while number := reader.recv(1):
        if number[0] != signal.SIGINT:
            continue
        now = time.monotonic()
        if first is not None and now - first > _ONE_PRESS_SECONDS:
            on_end(128 + signal.SIGINT)
            os._exit(128 + signal.SIGINT)
        first = now if first is None else first
    reader.close()
