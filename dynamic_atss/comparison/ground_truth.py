"""Reads the ground truth of a finished run's test set."""

from __future__ import annotations

from typing import Any

from dynamic_atss import builders
from dynamic_atss.comparison.runs import Run
from dynamic_atss.config.code import names_code
from dynamic_atss.config.load import load_config
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.ground_truth import TruthTable, truth_table

# These keys decide how a test set is read. Other keys of a run may name code that is not allowed.
_KEYS = (
    *("DATASETS.ROOT", "DATASETS.TEST", "DATASETS.ALLOW_OUTSIDE"),
    *("INPUT.EXIF", "INPUT.MAX_PIXELS", "INPUT.BITS"),
)


class GroundTruthReader:
    """Reads each test set once."""

    def __init__(self, *, allow_code: bool = False) -> None:
        """Prepares a reader that has read nothing yet.

        Args:
            allow_code: True if a data set may name code that reads it.
        """
        self._allow_code = allow_code
        self._known: dict[str, dict[str, DetectionDataset]] = {}
        self._tables: dict[tuple[str, str], TruthTable] = {}

    def __call__(self, run: Run) -> TruthTable:
        """Reads the first test set of a run.

        Raises:
            UserError: the data set cannot be opened, or names code that is not allowed.
        """
        return self.of(run.settings, run.test_set)

    def of(self, settings: dict[str, Any], test_set: str) -> TruthTable:
        """Reads one test set of a configuration, given by its folder name."""
        chosen = {key: settings[key] for key in _KEYS if key in settings}
        key = repr(chosen), test_set
        if key not in self._tables:
            dataset = self._datasets(chosen).get(test_set)
            if dataset is None:
                raise UserError(
                    f"DATASETS.TEST has no {test_set}, on which the run was tested; test it again"
                )
            self._tables[key] = truth_table(dataset.content, str(dataset.annotations))
        return self._tables[key]

    def _datasets(self, chosen: dict[str, Any]) -> dict[str, DetectionDataset]:
        key = repr(chosen)
        if key not in self._known:
            for name in chosen["DATASETS.TEST"]:
                if names_code("DATASETS.TEST", name) and not self._allow_code:
                    raise UserError(f"DATASETS.TEST {name!r} names code: add --allow-code")
            words = [str(word) for pair in chosen.items() for word in pair]
            # The head makes no difference, because boxes are read as the files hold them.
            cfg = load_config(
                None, [*words, "MODEL.HEAD.NAME", "atss", "DATALOADER.NUM_WORKERS", "0"]
            )
            loaders = builders.build_test_loaders(cfg)
            self._known[key] = {name: loader.dataset for name, loader in loaders.items()}
        return self._known[key]
