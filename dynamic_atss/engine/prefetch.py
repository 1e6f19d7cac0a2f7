"""Fetches batches one iteration ahead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from dynamic_atss.engine.log_averages import LogAverages
from dynamic_atss.errors import UserError
from dynamic_atss.types import Batch


class Prefetcher:
    """Gives the batch of each iteration, and fetches the next one in advance.

    So an unreadable file is known one step early, while the processes can still save and stop
    together.
    """

    def __init__(self, batches: Iterator[Batch], averages: LogAverages) -> None:
        self._batches = batches
        self._averages = averages
        self._ahead: Batch | None = None
        self.images = 0  # in the last batch
        self.failure: UserError | None = None

    def fetch(self) -> None:
        """Fetches the batch of the next iteration. Stores a UserError as `failure`."""
        try:
            with self._averages.waiting_for_data():
                self._ahead = next(self._batches, None)
        except UserError as error:
            self.failure = error

    def take(self) -> Batch:
        """Gives the fetched batch; fetches it first if none is there. Raises `failure`."""
        if self._ahead is None:
            self.fetch()
        if self.failure is not None:
            raise self.failure
        if self._ahead is None:
            raise RuntimeError("the loader ended before the last iteration")
        batch, self._ahead = self._ahead, None
        self.images = len(batch.image_ids)
        return batch

    def close(self) -> None:
        """Stops the workers of the loader, if there are any."""
        close = getattr(self._batches, "close", None)  # generators have it
        if close is not None:
            close()

    def raise_failure(self, iteration: int, code: int) -> NoReturn:
        """Ends this process with `code`. Raises `failure` on the process whose data failed.

        Args:
            iteration: the iteration that needed the data.
        """
        if self.failure is None:
            raise SystemExit(code)
        raise type(self.failure)(f"iteration {iteration}: {self.failure}") from self.failure
