"""The signals that ask a process to end, and what they do at which time.

A part of the program chooses by `on_signals` what they do: `stop_now` where nothing would be lost,
a handler that only notes the signal where something has to be finished first.
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

STOP_CODES = tuple(128 + number for number in SIGNALS)  # exit codes, as shells have them
# Two SIGINTs within it are one press of Ctrl-C: the terminal and a wrapper such as `uv run` send
# one each.
_ONE_PRESS_SECONDS = 0.5

Handler = Callable[..., Any] | signal.Handlers


class Stopped(SystemExit):
    """A signal asked the process to end. exit_code: 128 + its number"""

    def __init__(self, number: int) -> None:
        self.number = number
        self.exit_code = 128 + number
        super().__init__(self.exit_code)
        self.name = signal.Signals(number).name


def stop_now(number: int, *_: Any) -> NoReturn:
    """The handler that ends the process in order: files are closed, workers stopped."""
    raise Stopped(number)


def ignore(*_: Any) -> None:
    """The handler that does nothing. With the system's own, a second SIGINT would not be seen."""


@contextlib.contextmanager
def on_signals(handler: Handler) -> Iterator[None]:
    """The signals call `handler` inside, and what they called before from then on; nothing, if
    `Stopped` leaves the block in a program that they stop: one end is enough.

    One that is ignored stays ignored: nohup and a shell's `&` ask for that.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, handler)
    try:
        yield
    except Stopped:
        before = {n: ignore if old is stop_now else old for n, old in before.items()}
        raise
    finally:
        for number in heard:
            signal.signal(number, before[number])


@contextlib.contextmanager
def second_sigint_ends(before: Callable[[int], Any]) -> Iterator[None]:
    """A second SIGINT ends the process at once inside, also in the middle of a long computation;
    `before` is called with the exit code.

    Python runs handlers between two of its own instructions only, and a step is one instruction of
    many seconds. So a thread listens to what the system's own handler tells at once.
    """
    ours, systems = socket.socketpair()
    systems.setblocking(False)
    fd_before = signal.set_wakeup_fd(systems.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(ours, before), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(fd_before)
        systems.close()  # ends the thread


def _listen(told: socket.socket, before: Callable[[int], Any]) -> None:
    first = None
    while number := told.recv(1):
        if number[0] != signal.SIGINT:
            continue
        now = time.monotonic()
        if first is not None and now - first > _ONE_PRESS_SECONDS:
            before(128 + signal.SIGINT)
            os._exit(128 + signal.SIGINT)
        first = now if first is None else first
    told.close()
