"""Keeps the best test of a run, and the number of tests since then."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

from dynamic_atss.evaluation.scores import UNDEFINED

logger = logging.getLogger(__name__)
_KEYS = {"last_counted": "tested"}  # names in checkpoints


@dataclass
class Best:
    """Follows one number of the tests. It is part of a run's state, and equal on all processes.

    Attributes:
        metric: the name of the number; "": none.
        patience: the run ends after so many tests without a better value; 0: never.
        value, iteration: value and iteration of the best test.
        waited: the number of tests since the best one.
        last_counted: the iteration of the last test that was counted.
    """

    metric: str = ""
    patience: int = 0
    value: float = UNDEFINED
    iteration: int = 0
    waited: int = 0
    last_counted: int = 0

    def add(self, iteration: int, value: float) -> bool:
        """Adds a test, and returns True if it is the best. Counts a repeated test only once."""
        if iteration <= self.last_counted:
            return iteration == self.iteration
        better = value > self.value
        self.last_counted, self.waited = iteration, 0 if better else self.waited + 1
        if better:
            self.value, self.iteration = value, iteration
        return better

    @property
    def may_end(self) -> bool:
        """Returns True if the next test may end the run."""
        return 0 < self.patience <= self.waited + 1

    @property
    def enough(self) -> bool:
        """Returns True if the run should end."""
        return 0 < self.patience <= self.waited

    def summary(self) -> str:
        return (
            f"best {self.metric} so far: {self.value:.4f} at iteration {self.iteration} "
            "(model_best.pth)"
        )

    def reason(self) -> str:
        """Says why the run should end."""
        tests = "1 test" if self.waited == 1 else f"{self.waited} tests"
        return (
            f"{tests} gave no {self.metric} above {self.value:.4f} of iteration {self.iteration} "
            f"(TEST.PATIENCE {self.patience})"
        )

    def state_dict(self) -> dict[str, Any]:
        return {_KEYS.get(k, k): v for k, v in asdict(self).items() if k != "patience"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state, unless it is of another metric. Keeps the configured patience."""
        if state.get("metric") != self.metric:
            if self.metric:
                logger.info("TEST.BEST_METRIC %s: followed from now on", self.metric)
            return
        for name in asdict(self).keys() - {"patience"}:
            setattr(self, name, state[_KEYS.get(name, name)])
