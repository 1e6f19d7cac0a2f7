"""Tests which test is the best, and when a run ends early."""

import logging

from dynamic_atss.engine.best import Best


def test_the_first_of_equal_values_is_the_best():
    best = Best("AP", patience=2)
    values = [0.0, 0.2, 0.1, 0.2, 0.3]
    assert [best.add(i, v) for i, v in enumerate(values, 1)] == [True, True, False, False, True]
    assert (best.value, best.iteration, best.waited) == (0.3, 5, 0)


def test_the_run_ends_after_so_many_tests_without_a_better_one():
    best, never = Best("AP", patience=2), Best("AP")
    seen = []
    for i, value in enumerate([0.2, 0.1, 0.3, 0.3, 0.1], 1):
        best.add(i, value)
        never.add(i, value)
        seen.append(best.enough)
    assert seen == [False, False, False, False, True]
    assert not never.enough and never.waited == 2
    assert "2 tests gave no AP above 0.3000 of iteration 3" in best.reason()


def test_a_repeated_test_counts_once():
    best = Best("AP", patience=2)
    assert best.add(10, 0.2) and best.add(10, 0.2)
    assert not best.add(20, 0.1) and not best.add(20, 0.1)
    assert (best.waited, best.enough) == (1, False)


def test_the_state_is_restored_but_the_patience_stays_as_configured(caplog):
    old = Best("AP", patience=2)
    for i, value in enumerate([0.2, 0.1, 0.1], 1):
        old.add(i, value)
    new = Best("AP", patience=5)
    new.load_state_dict(old.state_dict())
    assert (new.value, new.iteration, new.waited, new.last_counted) == (0.2, 1, 2, 3)
    assert old.enough and not new.enough
    other = Best("AP50", patience=5)
    with caplog.at_level(logging.INFO):
        other.load_state_dict(old.state_dict())
    assert other == Best("AP50", patience=5)
    assert "TEST.BEST_METRIC AP50" in caplog.text
