"""Who of the processes has gone or stands still: each tells the others every second where it is.

A collective that waits for a process knows neither which one it is nor, on a GPU, that it waits.
So two threads beside the training do: one tells and hears through the store of the start, the
other, which waits for nobody, looks at the clock. Neither is part of an iteration.
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

from dynamic_atss.engine.meeting import Meeting, place
from dynamic_atss.errors import code_place

_STOPPED = 5  # periods that a look at the clock may be late; later, this process was stopped itself


@dataclass
class Sight:
    """What this process knows of all, itself included; times are seconds of a monotonic clock.

    told: the last message of each rank · heard: when it was new · answered: when the store last
    answered · moved: when this process began the iteration that it is in, None where it may take
    as long as it takes
    """

    hosts: list[str]
    rank: int
    timeout: float
    now: float
    told: list[dict[str, Any]] = field(init=False)
    heard: list[float] = field(init=False)
    answered: float = field(init=False)
    moved: float | None = None

    def __post_init__(self) -> None:
        self.told = [{} for _ in self.hosts]
        self.forgive(self.now)

    def forgive(self, now: float) -> None:
        """Every time begins anew: this process was stopped, and the others perhaps with it."""
        self.heard = [now] * len(self.hosts)
        self.answered = now
        self.moved = None if self.moved is None else now

    def hear(self, messages: list[dict[str, Any]], now: float) -> None:
        """The message of each rank as the store has it."""
        self.answered = now
        for r, message in enumerate(messages):
            if message != self.told[r]:
                self.told[r], self.heard[r] = message, now

    def trouble(self, now: float) -> str:
        """What has lasted longer than the timeout; "" if nothing has."""
        limit = f"for {self.timeout:g} s (SOLVER.TIMEOUT)"
        if now - self.answered > self.timeout:
            return f"no answer {limit} from {place()}, where the processes meet"
        late = self.moved is not None and now - self.moved > self.timeout
        if silent := self.silent(now, self.timeout / 2 if late else self.timeout):
            return f"not heard of {limit}: {_and(map(self._doing, silent))}"
        return f"no progress {limit}: {_and(map(self._doing, self.behind()))}" if late else ""

    def silent(self, now: float, seconds: float) -> list[int]:
        """The others that have not been heard for so long."""
        return [r for r, t in enumerate(self.heard) if now - t > seconds and r != self.rank]

    def behind(self) -> list[int]:
        """Those of the earliest iteration that wait for nobody, or all of them if all wait; where
        all are in one iteration, those of them that are where fewest are."""
        iterations = [told.get("iteration", 0) for told in self.told]
        last = [r for r, i in enumerate(iterations) if i == min(iterations)]
        busy = [r for r in last if not self.told[r].get("waits")] or last
        if len(last) < len(self.told):
            return busy
        places = [self.told[r].get("place") for r in busy]
        fewest = min(map(places.count, places))
        return [r for r, place in zip(busy, places, strict=True) if places.count(place) == fewest]

    def name(self, rank: int) -> str:
        return f"rank {rank} ({self.hosts[rank]})"

    def _doing(self, rank: int) -> str:
        return f"{self.name(rank)}{self._at(rank)}"

    def _at(self, rank: int) -> str:
        told = self.told[rank]
        return f", last seen at iteration {told['iteration']} in {told['place']}" if told else ""


class Watch:
    """The two threads. `end` is called, in one of them, with what is wrong."""

    def __init__(self, meeting: Meeting, timeout: float, end: Callable[[str], Any]) -> None:
        """timeout: seconds"""
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
            threading.Thread(target=run, daemon=True) for run in (self._tell, self._look)
        ]
        for thread in self._threads:
            thread.start()

    @contextlib.contextmanager
    def of_iteration(self, iteration: int) -> Iterator[None]:
        """What is done inside has to end within the timeout; anything else may take long, as long
        as all processes are heard of."""
        self.iteration = iteration
        self.sight.moved = time.monotonic()
        try:
            yield
        finally:
            self.sight.moved = None

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """This process waits for the others inside."""
        before, self._waits = self._waits, True
        try:
            yield
        finally:
            self._waits = before

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=2 * self.period)

    def leave(self, code: int) -> None:
        """Tells the others that this process ends with that code, and gives them the time to hear
        it: the store may end with it."""
        self.ended = code
        self._over.wait(3 * self.period)

    def ended_with(self, code: int) -> bool:
        """Whether another process has said so."""
        return any(told.get("ended") == code for told in self.sight.told)

    def reason(self) -> str:
        """Why a collective may have failed, a few periods after it did."""
        self._over.wait(4 * self.period)
        gone = self.sight.silent(time.monotonic(), 3 * self.period)
        names = _and(map(self.sight.name, gone)) or "another process"
        return f"{names} has ended or cannot be reached"

    def _tell(self) -> None:
        # The connection, once it is broken, remains so; `_look` sees that no answer comes.
        with contextlib.suppress(RuntimeError):
            while not self._over.is_set():
                self._exchange()
                self._over.wait(self.period)

    def _exchange(self) -> None:
        self._count += 1
        self._place = code_place(sys._current_frames().get(self._main or 0)) or self._place
        own = {"count": self._count, "iteration": self.iteration, "place": self._place}
        own |= {"waits": self._waits, "ended": self.ended}
        self._store.set(self._keys[self._rank], json.dumps(own))
        if self._store.check(self._keys):
            told = [json.loads(x) for x in self._store.multi_get(self._keys)]
            self.sight.hear(told, time.monotonic())
        else:  # some have not said anything yet
            self.sight.answered = time.monotonic()

    def _look(self) -> None:
        before = time.monotonic()
        while not self._over.wait(self.period):
            now = time.monotonic()
            if now - before > _STOPPED * self.period:
                self.sight.forgive(now)
            before = now
            if trouble := self.sight.trouble(now):
                self._end(trouble)
                return


def _and(texts: Any) -> str:
    return " and ".join(texts)
