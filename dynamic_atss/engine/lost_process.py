"""Detects which process is lost or does not respond.

A collective does not know which process it waits for and, on a GPU, not even that it waits. So two
threads run besides the training. One writes every second to the shared store what this process
does, and reads the messages of the others. The other checks the times, and never blocks.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dynamic_atss.engine.rendezvous import Rendezvous, place
from dynamic_atss.errors import code_place

_STOPPED = 5  # periods; a check that is later means that this process was stopped


@dataclass
class Sight:
    """Holds the knowledge of this process about all processes. Times are monotonic, in seconds.

    Attributes:
        hosts: the machine of each rank.
        rank: the rank of this process.
        timeout: the time after which a process counts as lost.
        now: the time at which the watch starts.
        messages: the last message of each rank.
        heard: the time at which each message was new.
        answered: the time of the last answer of the store.
        iteration_began: the time at which this process began its iteration; None outside an
            iteration, where there is no time limit.
    """

    hosts: list[str]
    rank: int
    timeout: float
    now: float
    messages: list[dict[str, Any]] = field(init=False)
    heard: list[float] = field(init=False)
    answered: float = field(init=False)
    iteration_began: float | None = None

    def __post_init__(self) -> None:
        self.messages = [{} for _ in self.hosts]
        self.restart(self.now)

    def restart(self, now: float) -> None:
        """Restarts all times, after this process was stopped, perhaps together with the others."""
        self.heard = [now] * len(self.hosts)
        self.answered = now
        self.iteration_began = None if self.iteration_began is None else now

    def update(self, messages: list[dict[str, Any]], now: float) -> None:
        """Takes the messages of all ranks from the store."""
        self.answered = now
        for r, message in enumerate(messages):
            if message != self.messages[r]:
                self.messages[r], self.heard[r] = message, now

    def trouble(self, now: float) -> str:
        """Says what has lasted longer than the timeout; "" if nothing has."""
        limit = f"for {self.timeout:g} s (SOLVER.TIMEOUT)"
        if now - self.answered > self.timeout:
            return f"no answer {limit} from {place()}, where the processes meet"
        began = self.iteration_began
        late = began is not None and now - began > self.timeout
        if silent := self.silent(now, self.timeout / 2 if late else self.timeout):
            return f"no message {limit} from {_and(map(self._described, silent))}"
        if late:
            return f"no progress {limit}: {_and(map(self._described, self.behind()))}"
        return ""

    def silent(self, now: float, seconds: float) -> list[int]:
        """Lists the other ranks without a new message for so many seconds."""
        return [r for r, t in enumerate(self.heard) if now - t > seconds and r != self.rank]

    def behind(self) -> list[int]:
        """Lists the ranks that most likely block the others.

        They are those of the earliest iteration that do not wait, or all of it if all wait. If all
        ranks are in the same iteration, they are those at the place with the fewest ranks.
        """
        iterations = [message.get("iteration", 0) for message in self.messages]
        last = [r for r, i in enumerate(iterations) if i == min(iterations)]
        busy = [r for r in last if not self.messages[r].get("waits")] or last
        if len(last) < len(self.messages):
            return busy
        places = [self.messages[r].get("place") for r in busy]
        fewest = min(map(places.count, places))
        return [r for r, place in zip(busy, places, strict=True) if places.count(place) == fewest]

    def name(self, rank: int) -> str:
        return f"rank {rank} ({self.hosts[rank]})"

    def _described(self, rank: int) -> str:
        message = self.messages[rank]
        if not message:
            return self.name(rank)
        place = f"iteration {message['iteration']} in {message['place']}"
        return f"{self.name(rank)}, last seen at {place}"


class Watch:
    """Runs the two threads.

    Args:
        meeting: the processes of this start.
        timeout: in seconds.
        end: is called, in one of the threads, with a text that describes the trouble.
    """

    def __init__(self, meeting: Rendezvous, timeout: float, end: Callable[[str], Any]) -> None:
        self._store, self._rank = meeting.side, meeting.rank
        self._keys = [f"at/{r}" for r in range(meeting.world)]
        self._end = end
        self._main = threading.main_thread().ident
        self.period = min(1.0, timeout / 10)
        self.sight = Sight(meeting.hosts, meeting.rank, timeout, time.monotonic())
        self.iteration = 0
        self.ended = 0
        self._waits = False
        self._place = "its start"
        self._count = 0
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=run, daemon=True) for run in (self._exchange_all, self._check)
        ]
        for thread in self._threads:
            thread.start()

    @contextlib.contextmanager
    def of_iteration(self, iteration: int) -> Iterator[None]:
        """Encloses an iteration, which must end within the timeout.

        Outside an iteration there is no limit, as long as all processes send messages.
        """
        self.iteration = iteration
        self.sight.iteration_began = time.monotonic()
        try:
            yield
        finally:
            self.sight.iteration_began = None

    @contextlib.contextmanager
    def outside_iteration(self) -> Iterator[None]:
        """Encloses work without a time limit. An iteration around it then begins anew."""
        in_iteration = self.sight.iteration_began is not None
        self.sight.iteration_began = None
        try:
            yield
        finally:
            self.sight.iteration_began = time.monotonic() if in_iteration else None

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Encloses code in which this process waits for the others."""
        previous, self._waits = self._waits, True
        try:
            yield
        finally:
            self._waits = previous

    def stop(self) -> None:
        """Stops the threads."""
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=2 * self.period)

    def leave(self, code: int) -> None:
        """Sends the others the exit code of this process, and waits until they have read it.

        It waits because the store may end with this process.
        """
        self.ended = code
        self._over.wait(3 * self.period)

    def ended_with(self, code: int) -> bool:
        """Returns True if another process has ended with that exit code."""
        return any(message.get("ended") == code for message in self.sight.messages)

    def reason(self) -> str:
        """Says why a collective has probably failed. Waits a few periods to find out."""
        self._over.wait(4 * self.period)
        silent = self.sight.silent(time.monotonic(), 3 * self.period)
        names = _and(map(self.sight.name, silent)) or "another process"
        return f"{names} has ended or cannot be reached"

    def _exchange_all(self) -> None:
        # A broken connection stays broken; `_check` notices that no answer comes.
        with contextlib.suppress(RuntimeError):
            while not self._over.is_set():
                self._exchange()
                self._over.wait(self.period)

    def _exchange(self) -> None:
        self._count += 1
        self._place = code_place(sys._current_frames().get(self._main or 0)) or self._place
        message = {
            "count": self._count,
            "iteration": self.iteration,
            "place": self._place,
            "waits": self._waits,
            "ended": self.ended,
        }
        self._store.set(self._keys[self._rank], json.dumps(message))
        if self._store.check(self._keys):
            messages = [json.loads(x) for x in self._store.multi_get(self._keys)]
            self.sight.update(messages, time.monotonic())
        else:  # a process has not sent its first message yet
            self.sight.answered = time.monotonic()

    def _check(self) -> None:
        previous = time.monotonic()
        while not self._over.wait(self.period):
            now = time.monotonic()
            if now - previous > _STOPPED * self.period:
                self.sight.restart(now)
            previous = now
            if trouble := self.sight.trouble(now):
                self._end(trouble)
                return


def _and(texts: Any) -> str:
    return " and ".join(texts)
