"""Records the network of a training as CUDA graphs, whose many kernels then start by one launch.

A graph has one size of images. Its outputs lie in memory that the next step overwrites.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

SIZES = 32  # each size is compiled and recorded by itself, which takes time and memory
_ADVICE = (
    "give all images one size by INPUT.LSJ, or make the sizes fewer by INPUT.MIN_SIZE_TRAIN, "
    "INPUT.MAX_SIZE_TRAIN or a larger DATALOADER.SIZE_DIVISIBILITY"
)


class CudaGraphs:
    """Says which passes of a network are recorded. Diagnoses run without graphs.

    Attributes:
        tests: True records passes of tests, too. Use it for images of one size.
        copies: memory for the buffers of each part of a batch, see `in_parts`. Graphs need the same
            addresses in each step.
    """

    def __init__(self) -> None:
        self.tests = False
        self.copies: list[list[Tensor]] = []
        self._sizes: set[tuple[bool, tuple[int, ...]]] = set()
        self._warned: set[str] = set()

    def begin_step(self) -> None:
        """Begins a step. PyTorch may overwrite the graphs' outputs of the step before."""
        torch.compiler.cudagraph_mark_step_begin()
        if _skipped():
            self._warn(
                "skipped",
                "MODEL.CUDA_GRAPHS: PyTorch does not record a part of the network, which runs "
                "without graph; TORCH_LOGS=cudagraphs,perf_hints says why",
            )

    def passing(self, images: Tensor, training: bool) -> AbstractContextManager[object]:
        """Gives the context manager of a pass of the network over `images` (N, 3, H, W).

        A pass of a training has a graph if it computes gradients. One of a test has a graph if it
        computes none.
        """
        wanted = self.serves(training) and training == torch.is_grad_enabled()
        if wanted and self._has_graph(tuple(images.shape), training):
            return contextlib.nullcontext()
        return torch.compiler.set_stance("force_eager")

    def serves(self, training: bool) -> bool:
        """Returns True if passes of a training, or of a test, may be recorded."""
        return training or self.tests

    def _has_graph(self, size: tuple[int, ...], training: bool) -> bool:
        """Returns True if passes of this size are recorded. Logs each new size."""
        if (training, size) in self._sizes:
            return True
        n, _, height, width = size
        text = f"{n} images of {height} x {width}{'' if training else ' of a test'}"
        if len(self._sizes) == SIZES:
            self._warn(
                "sizes",
                f"MODEL.CUDA_GRAPHS: {text} is one size more than the {SIZES} that are recorded; "
                f"further sizes run without graph and without MODEL.COMPILE: {_ADVICE}",
            )
            return False
        self._sizes.add((training, size))
        number = len(self._sizes)
        logger.info(
            "MODEL.CUDA_GRAPHS: size %d, %s: its first steps are slow, as it is recorded",
            number,
            text,
        )
        return True

    def _warn(self, kind: str, line: str) -> None:
        """Logs the first line of a kind."""
        if kind not in self._warned:
            self._warned.add(kind)
            logger.warning("%s", line)


def record(modules: Iterable[nn.Module], *, compiled: bool) -> CudaGraphs:
    """Lets PyTorch record the modules, in place. The names of the parameters remain.

    Args:
        compiled: True compiles the modules, too, as MODEL.COMPILE does.
    """
    import torch._dynamo as dynamo  # takes seconds

    # At its limit, PyTorch would silently run without graph. Parts of a batch count separately.
    dynamo.config.recompile_limit = max(dynamo.config.recompile_limit, 2 * SIZES)
    how = {"mode": "reduce-overhead"} if compiled else {"backend": "cudagraphs"}
    for module in modules:
        # A graph has fixed sizes. With dynamic ones, PyTorch would compile the second size anew.
        module.compile(dynamic=False, **how)
    return CudaGraphs()


def _skipped() -> bool:
    """Returns True if PyTorch has run anything without the graph that was asked for."""
    from torch._dynamo.utils import counters

    return counters["inductor"]["cudagraph_skips"] > 0
