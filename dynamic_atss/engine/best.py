"""The best test of a run, and how long ago it was."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

from dynamic_atss.evaluation.scores import UNDEFINED

logger = logging.getLogger(__name__)


@dataclass
class Best:
    """Watches one number of the tests; part of a run's state, the same on all processes.

    metric: its name, "" to watch none · patience: the run has had enough after so many tests
    without a better value, 0 for never · value, iteration: of the best test so far · waited: tests
    since then · tested: iteration of the last test that counted
    """

    metric: str = ""
    patience: int = 0
    value: float = UNDEFINED
    iteration: int = 0
    waited: int = 0
    tested: int = 0

    def add(self, iteration: int, value: float) -> bool:
        """Whether this test is the best so far. One that a resumed run repeats counts once."""
        if iteration <= self.tested:
            return iteration == self.iteration
        better = value > self.value
        self.tested, self.waited = iteration, 0 if better else self.waited + 1
        if better:
            self.value, self.iteration = value, iteration
        return better

    @property
    def enough(self) -> bool:
        return 0 < self.patience <= self.waited

    def summary(self) -> str:
        return (
            f"best {self.metric} so far: {self.value:.4f} at iteration {self.iteration} "
            "(model_best.pth)"
        )

    def reason(self) -> str:
        """Why the run has had enough."""
        return (
            f"{self.waited} tests gave no {self.metric} above {self.value:.4f} of iteration "
            f"{self.iteration} (TEST.PATIENCE {self.patience})"
        )

    def state_dict(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "patience"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of another metric, or none, nothing is taken over; the patience is the configuration's,
        which may have changed since."""
        if state.get("metric") != self.metric:
            if self.metric:
                logger.info("TEST.BEST_METRIC %s: watched from here on", self.metric)
            return
        for name in self.state_dict():
            setattr(self, name, state[name])
