"""Batches, fetched an iteration ahead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from dynamic_atss.engine.window import Window
from dynamic_atss.errors import UserError
from dynamic_atss.types import Batch


class Feed:
    """The batch of one iteration after the other, fetched an iteration ahead.

    So a file that cannot be read is known before the step that needs it, while the processes can
    still agree to save and stop.
    """

    def __init__(self, batches: Iterator[Batch], window: Window) -> None:
        self._batches = batches
        self._window = window
        self._ahead: Batch | None = None
        self.images = 0  # of the batch taken last
        self.failure: UserError | None = None

    def fetch(self) -> None:
        """Fetches the next iteration's batch; a UserError is kept as `failure`."""
        try:
            with self._window.waiting_for_data():
                self._ahead = next(self._batches, None)
        except UserError as error:
            self.failure = error

    def take(self) -> Batch:
        """The batch fetched last; that of the first iteration is fetched now."""
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
        """Ends the loader's workers, if it has some."""
        close = getattr(self._batches, "close", None)  # a generator has it
        if close is not None:
            close()

    def raise_failure(self, iteration: int, code: int) -> NoReturn:
        """Ends every process, with that exit code; the one whose data failed has the word.

        iteration: the one that the data were for
        """
        if self.failure is None:
            raise SystemExit(code)
        raise type(self.failure)(f"iteration {iteration}: {self.failure}") from self.failure
