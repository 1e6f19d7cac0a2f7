"""Counts copies and waits among the events of PyTorch's profiler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

# Beginning of the name of an event -> what it counts as. CUDA names copies on the GPU by their
# direction, and waits on the host by the function.
COUNTED = {
    "Memcpy HtoD": "to_device",
    "Memcpy DtoH": "to_host",
    "Memcpy DtoD": "on_device",
    "cudaStreamSynchronize": "waits",
    "cudaDeviceSynchronize": "waits",
    "cudaEventSynchronize": "waits",
}


def count_transfers(events: Iterable[Sequence[object]]) -> dict[str, int]:
    """Counts copies to the device, to the host and on the device, and waits of the host.

    Args:
        events: tuples that begin with the name of an event.

    Returns:
        the counts by "to_device", "to_host", "on_device" and "waits", also those of 0.
    """
    counts = dict.fromkeys(COUNTED.values(), 0)
    for name, *_ in events:
        kind = next((kind for start, kind in COUNTED.items() if str(name).startswith(start)), None)
        if kind is not None:
            counts[kind] += 1
    return counts


def noted(counts: Mapping[str, float]) -> str:
    """Says the counts of a step, with the goals beside them."""
    return (
        f"{counts['to_device']:.3g} copies to the device (goal 1), {counts['waits']:.3g} waits "
        f"(goal 1), {counts['to_host']:.3g} copies to the host, "
        f"{counts['on_device']:.3g} on the device"
    )
