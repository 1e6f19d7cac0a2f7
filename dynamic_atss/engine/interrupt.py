"""What SIGTERM does."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

EXIT_CODE = 143  # 128 + SIGTERM, as shells have it


@contextlib.contextmanager
def on_sigterm(handler: Callable[..., Any] | signal.Handlers) -> Iterator[None]:
    """SIGTERM calls `handler` inside, and what it called before from then on."""
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_process(*_: Any) -> NoReturn:
    """The handler that ends the process at once, in order: files are closed, workers stopped."""
    sys.exit(EXIT_CODE)
