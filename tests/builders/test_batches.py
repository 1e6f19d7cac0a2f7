"""Batch sizes that do not fit the processes or data sets are refused before slow work begins."""

import pytest
from helpers_run import write_config

from dynamic_atss.builders import build_test_loaders, build_train_dataset
from dynamic_atss.config.load import load_config
from dynamic_atss.errors import UserError


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tiny configuration, whose training set has 16 images, with changes."""
    file, *rest = write_config(tmp_path_factory.mktemp("tiny"))[1:]
    return lambda *changes: load_config(file, [*rest, *changes])


@pytest.mark.parametrize("build", [build_train_dataset, build_test_loaders])
def test_a_batch_that_does_not_divide_comes_before_data_that_are_not_there(
    tiny, monkeypatch, build
):
    monkeypatch.setattr("dynamic_atss.engine.distributed.world_size", lambda: 3)
    data = ["DATASETS.TRAIN", "coco:none.json:none", "DATASETS.TEST", "coco:none.json:none"]
    with pytest.raises(UserError, match="IMS_PER_BATCH 4 does not divide by 3 process"):
        build(tiny(*data))
    with pytest.raises(UserError, match=r"none\.json"):
        build(tiny(*data, "SOLVER.IMS_PER_BATCH", "6", "TEST.IMS_PER_BATCH", "6"))


@pytest.mark.parametrize(("images", "lines"), [("16", 0), ("17", 1)])
def test_a_batch_larger_than_the_data_set_is_a_warning(tiny, caplog, images, lines):
    build_train_dataset(tiny("SOLVER.IMS_PER_BATCH", images))
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert ["17 is more than the 16 images" in line for line in warnings] == [True] * lines
