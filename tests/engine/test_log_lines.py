import pytest

from dynamic_atss.engine.log_lines import LogFormatter, first_text, rate

VALUES = {
    "loss": 2.0663,
    "loss_cls": 0.08552,
    "loss_reg": 1.365,
    "loss_IoU": 0.6161,
    "positives": 98.4,
    "positives_s8": 98.4,
    "boxes_without_positive": 0.1,
    "ignored": 0.0,
    "iou_of_positives": 0.26,
    "time": 0.5,
    "data_time": 0.01,
    "max_mem_mb": 1536,
    "lr": 1e-4,
}


def test_a_line_has_units_speed_and_the_time_left():
    assert LogFormatter(last=1400, images=8).text(200, VALUES) == (
        "iteration  200/1400  loss 2.0663 (cls 0.0855, reg 1.3650, IoU 0.6161)  lr 1.00e-04  "
        "16.0 images/s  data 2 %  1.5 GiB  ETA 0:10:00"
    )


def test_terms_keep_their_order_and_user_metrics_are_shown():
    lines = LogFormatter(10, 4)
    first = lines.text(1, {**VALUES, "width": 123456.7})
    assert "IoU 0.6161)  width 1.235e+05  lr" in first
    reordered = dict(reversed({**VALUES, "width": 123456.7}.items()))
    assert lines.text(1, reordered) == first


def test_terms_and_metrics_of_branches_keep_their_prefix():
    values = {"one/loss_cls": 1.0, "one/positives_s16": 3.0, "two/loss_cls": 1.5, "one/mine": 2.0}
    text = LogFormatter(10, 4).text(1, {**values, **{k: VALUES[k] for k in TIMES}, "loss": 2.5})
    assert "loss 2.5000 (one/cls 1.0000, two/cls 1.5000)  one/mine 2.0000  lr" in text


TIMES = ("time", "data_time", "max_mem_mb", "lr")


@pytest.mark.parametrize("seconds, left", [((1, 1), "0:00:08"), ((1, 2), "0:00:10")])
def test_the_time_left_follows_the_newest_line_slowly(seconds, left):
    """8 iterations of 1 s each; of 0.3 x 2 s + 0.7 x 1 s."""
    lines = LogFormatter(10, 4)
    for iteration, time in enumerate(seconds, 1):
        text = lines.text(iteration, {**VALUES, "time": time})
    assert text.endswith(f"ETA {left}")


@pytest.mark.parametrize(
    "speed, text",
    [(0.0371, "0.037"), (0.0, "0.0"), (0.96, "0.96"), (12.34, "12.3"), (1.0, "1.0")],
)
def test_a_slow_rate_keeps_significant_digits(speed, text):
    assert rate(speed) == text


def test_the_first_line_gives_loss_rate_and_time_left():
    """8 images in 200 s; 9 more iterations of 200 s."""
    text = first_text(1, 10, loss=2.0663, images=8, seconds=200.0)
    assert text.startswith("iteration 1/10  loss 2.0663  0.04 images/s  ETA 0:30:00 (")
