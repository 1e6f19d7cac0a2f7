"""Finds the largest batch that fits into the memory."""

from __future__ import annotations

from collections.abc import Callable

import torch


def largest_batch(
    attempt: Callable[[int], object],
    forget: Callable[[], object],
    start: int,
    step: int = 1,
    most: int = 1024,
) -> int:
    """Returns the largest number of images for which `attempt` does not run out of memory.

    It doubles the number until an attempt fails. Then it adds half of the last step, a quarter, and
    so on, whenever that fits.

    Args:
        attempt: runs a step of so many images.
        forget: gives the memory of a failed attempt back.
        start: images of the first attempt.
        step: smallest difference that is tried.
        most: images at which the search ends.

    Raises:
        torch.OutOfMemoryError: not even one image fits.
    """
    good, images = 0, start
    while images <= most and _fits(attempt, forget, images):
        good, images = images, 2 * images
    add = (images - good) // 2
    while add >= (step if good else 1):
        if good + add <= most and _fits(attempt, forget, good + add):
            good += add
        add //= 2
    if not good:
        raise torch.OutOfMemoryError("not even one image fits")
    return good


def _fits(attempt: Callable[[int], object], forget: Callable[[], object], images: int) -> bool:
    try:
        attempt(images)
        return True
    except torch.OutOfMemoryError:
        pass
    except RuntimeError as error:  # cuDNN and cuBLAS say it in their words
        if not any(word in str(error).lower() for word in ("out of memory", "alloc_failed")):
            raise
    forget()  # after the error, whose frames hold tensors
    return False
