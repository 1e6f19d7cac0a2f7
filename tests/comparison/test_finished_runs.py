"""Tests how finished runs are read, grouped and compared."""

import csv
import json

import pytest
import yaml
from helpers_comparison import line, write_data, write_run
from helpers_run import call_tool

from dynamic_atss.comparison.groups import grouped, warnings
from dynamic_atss.comparison.measures import curve, mean_curve, measures
from dynamic_atss.comparison.names import short
from dynamic_atss.comparison.runs import read_run
from dynamic_atss.errors import UserError

NAME = "MODEL.ASSIGNER.NAME"


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "images")


@pytest.fixture
def make(tmp_path, data):
    def made(name, *args, **more):
        return write_run(tmp_path / name, data, *args, **more)

    made.data = data
    return made


@pytest.fixture
def compare(monkeypatch):
    return lambda *args: call_tool(monkeypatch, "compare", args)


def error_of(capsys) -> str:
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ")
    return message


def test_runs_are_grouped_by_what_differs_but_for_their_seeds(make):
    runs = [
        make("a0", 0, settings=(NAME, "atss")),
        make("a1", 1, settings=(NAME, "atss", "DATALOADER.NUM_WORKERS", 3)),
        make("b0", 0, settings=(NAME, "topk", "MODEL.ASSIGNER.ARGS.topk", 5)),
        make("c0", 0, settings=(NAME, "here/rule.py:Best", "SOLVER.BASE_LR", 0.02)),
        make("d0", 0, settings=(NAME, "there/rule.py:Best", "SOLVER.BASE_LR", 0.02)),
    ]
    found = grouped([*map(read_run, runs)])
    labels = [group.label for group in found]
    assert labels == [
        "atss, BASE_LR 0.001",
        "topk,topk=5, BASE_LR 0.001",
        "rule.py:Best, BASE_LR 0.02",
        "rule.py:Best, BASE_LR 0.02 #2",
    ]
    assert [[*group.runs] for group in found] == [[0, 1], [0], [0], [0]]
    (only,) = grouped([read_run(runs[0])])
    assert only.label == "atss"


def test_a_run_of_a_version_without_a_key_has_its_default(make):
    """Two seeds of one rule belong together, also if one ran before MODEL.ONE_TO_ONE existed."""
    runs = [make("a0", 0, settings=(NAME, "atss")), make("a1", 1, settings=(NAME, "atss"))]
    older = yaml.safe_load((runs[0] / "config.yaml").read_text())
    del older["MODEL"]["ONE_TO_ONE"], older["TEST"]["NMS"]
    (runs[0] / "config.yaml").write_text(yaml.safe_dump(older))
    (group,) = grouped([*map(read_run, runs)])
    assert (group.label, [*group.runs]) == ("atss", [0, 1])


def test_the_default_rule_of_the_head_has_its_name(make):
    """A run that names the rule belongs to the same group as one that takes the default."""
    on = ("MODEL.ATSS_ON", True)
    runs = [make("a0", 0, settings=on), make("a1", 1, settings=(*on, NAME, "dynamic_atss"))]
    runs += [make("b0", 0, settings=(*on, "MODEL.ATSS.POSITIVE_TYPE", "TOPK"))]
    labels = [group.label.partition(",")[0] for group in grouped([*map(read_run, runs)])]
    assert labels == ["dynamic_atss", "topk"]
    (group,) = grouped([*map(read_run, runs[:2])])
    assert (group.label, [*group.runs]) == ("dynamic_atss", [0, 1])


def test_another_budget_gives_a_warning(make):
    runs = [
        make("a", settings=(NAME, "atss", "SOLVER.MAX_ITER", 40)),
        make("b", settings=(NAME, "topk", "SOLVER.MAX_ITER", 50)),
    ]
    (warning,) = warnings([*map(read_run, runs)])
    assert warning.startswith("the runs differ in SOLVER.MAX_ITER: ")


def test_many_differences_are_named_by_the_rule_or_else_by_the_folder(make):
    many = ("SOLVER.BASE_LR", 0.02, "INPUT.MIN_SIZE_TEST", 700, "INPUT.MAX_SIZE_TEST", 900)
    one, two = make("one", settings=(NAME, "atss")), make("two", settings=(NAME, "topk", *many))
    same = make("runs/one", 1, settings=(NAME, "atss", *many))

    def label(*folders):
        return [group.label for group in grouped([*map(read_run, folders)])]

    assert label(one, two) == ["atss", "topk"]
    assert label(two, same) == ["topk", "atss"]
    assert label(one, same) == [f"{one.parent.name}/one", "runs/one"]
    assert label(one, two, same) == [f"{one.parent.name}/one", f"{one.parent.name}/two", "runs/one"]


def test_names_in_plots_are_short_and_differ():
    rules = ["dynamic_atss,combine=product,topk=9", "dynamic_atss,combine=sum,topk=9", "atss$"]
    assert short(rules) == ["dynamic_ats…duct,topk=9", "dynamic_ats…=sum,topk=9", r"atss\$"]
    assert short([f"dynamic_atss,topk={n},combine=product" for n in (7, 8)]) == [
        "dynamic_ats…ine=product",
        "dynamic_ats…ine=product #2",
    ]


def test_measures_of_lines():
    found = measures(
        [line(20), line(40), {**line(50), "positives_8to16": 12.0, "positives": 22.0, "time": 0.8}]
    )
    assert found.positives == pytest.approx({"8to16": (40 * 6 + 10 * 12) / 100, "16to32": 10})
    assert found.without == pytest.approx({"8to16": 0.25, "16to32": 0})
    assert found.per_image == pytest.approx((40 * 16 + 10 * 22) / 50)
    assert found.overlap == {20: 0.2, 40: 0.4, 50: 0.5}
    assert found.overlap_at_end == pytest.approx(0.45)  # after three quarters of 50 iterations
    assert found.seconds == pytest.approx(0.65) and found.memory == 700
    assert [*found.losses] == ["loss", "loss_cls", "loss_reg"]


def test_measures_of_what_was_not_recorded_and_of_branches():
    old = {"iteration": 20, "loss": 1.0, "one/loss_cls": None, "one/iou_of_positives": 0.3}
    found = measures([old])
    assert found.positives == found.without == {} and found.per_image is None
    assert found.overlap == {20: 0.3} and found.losses["one/loss_cls"] == {}
    assert (found.seconds, found.memory) == (None, None)
    assert measures([]).overlap_at_end is None
    assert curve([old], "loss") == {20: 1.0}
    assert mean_curve([{1: 1.0, 2: 2.0}, {2: 4.0, 3: 1.0}]) == {2: 3.0}
    assert mean_curve([]) == {}


@pytest.mark.slow
def test_the_files_of_a_comparison(make, compare, tmp_path, capsys):
    aps = {"atss": (0.30, 0.32, 0.31), "topk": (0.35, 0.36, 0.37)}
    runs = [
        make(f"{rule}{seed}", seed, ap, settings=(NAME, rule))
        for rule, values in aps.items()
        for seed, ap in enumerate(values)
    ]
    out = tmp_path / "out"
    assert compare(*runs, "--output", out) == 0
    printed = capsys.readouterr()
    assert "topk: AP is higher than that of atss (+0.050 [+0.025, +0.075], 3 seeds)" in printed.out
    assert printed.err == ""

    found = json.loads((out / "comparison.json").read_text())
    topk = found["rules"][1]
    assert found["reference"] == "atss" and topk["label"] == "topk"
    assert topk["numbers"]["AP"] == pytest.approx({"n": 3, "mean": 0.36, "sd": 0.01})
    # Differences 0.05, 0.04, 0.06: 0.05 -+ 4.3027 x 0.01 / sqrt(3)
    difference = topk["differences"]["AP"]
    assert difference["low"] == pytest.approx(0.02516, abs=1e-5)
    assert difference["high"] == pytest.approx(0.07484, abs=1e-5)
    assert difference["verdict"] == "higher"
    assert "APl" not in topk["numbers"]  # undefined
    # Three detections of IoU 1, 0.5 and 0, and scores of 0.9, 0.6 and 0.2.
    assert topk["numbers"]["spearman"]["mean"] == 1
    assert topk["runs"][0]["agreement"]["matched"] == 2
    assert topk["runs"][0]["positives_per_box"] == {"8to16": 3.0, "16to32": 10.0}

    rows = [*csv.DictReader((out / "comparison.csv").open())]
    assert [(row["rule"], row["seed"], float(row["AP"])) for row in rows] == [
        (rule, str(seed), ap) for rule, values in aps.items() for seed, ap in enumerate(values)
    ]
    assert rows[0]["APl"] == "" and float(rows[0]["positives_per_box_16to32"]) == 10
    text = (out / "comparison.md").read_text()
    assert "| topk | 3 | 0.360 ± 0.010 |" in text and "| topk | +0.050 [+0.025, +0.075] * |" in text
    assert "| atss | 3.0 | 10.0 |" in text and "| atss | 25.0 % | 0.0 % |" in text
    page = (out / "comparison.html").read_text()
    assert page.count("<img") == page.count('src="data:image/png;base64,') == 11
    assert "src=" not in page.replace('src="data:', "") and "href" not in page
    assert "+0.050 [+0.025, +0.075] *" in page and len(page) < 2_000_000


def test_runs_of_other_test_sets_are_shown_and_not_compared(make, compare, tmp_path, capsys):
    other = write_data(tmp_path / "other", boxes=1)
    keys = ("DATASETS.TRAIN", (other,), "DATASETS.TEST", (other,))
    runs = [
        *(make(f"atss{seed}", seed, 0.3, settings=(NAME, "atss")) for seed in (0, 1)),
        *(make(f"topk{seed}", seed, 0.4, settings=(NAME, "topk", *keys)) for seed in (0, 1)),
    ]
    out = tmp_path / "out"
    assert compare(*runs, "--output", out) == 0
    line = "topk: scores cannot be compared with those of atss"
    assert line in capsys.readouterr().out
    found = json.loads((out / "comparison.json").read_text())
    assert [rule["comparable"] for rule in found["rules"]] == [True, False]
    assert found["rules"][1]["differences"] == {} and found["rules"][1]["numbers"]["AP"]
    text = (out / "comparison.md").read_text()
    assert line in text and "| topk | 2 | 0.400 ± 0.000 |" in text
    assert "Paired differences" not in text and "seeds give wide intervals" not in text
    assert f"Trained on {make.data} [atss]; {other} [topk]" in text
    assert "runs of one seed differ in more than the rule" in text
    assert f"| DATASETS.TRAIN | {make.data} | {other} |" in text
    page = (out / "comparison.html").read_text()
    assert "Paired differences" not in page and page.count("<img") == 11 - 3


@pytest.mark.slow
def test_test_sets_of_one_content_are_compared_wherever_they_lie(make, compare, tmp_path, capsys):
    copy = write_data(tmp_path / "copy")
    runs = [make("a", settings=(NAME, "atss"))]
    runs += [make("b", 0, 0.4, settings=(NAME, "topk", "DATASETS.TEST", (copy,)))]
    assert compare(*runs, "--output", tmp_path / "out") == 0
    assert "topk: +0.100 AP compared with atss" in capsys.readouterr().out


def test_what_no_run_has_recorded_is_a_line(make, compare, tmp_path):
    runs = [make(rule, settings=(NAME, rule)) for rule in ("atss", "topk")]
    for run in runs:
        (run / "metrics.jsonl").write_text(
            '{"iteration": 40, "loss": 1.0}\n{"iteration": 40, "dataset": "boxes"}\n'
        )
    assert compare(*runs, "--output", tmp_path / "out") == 0
    text = (tmp_path / "out/comparison.md").read_text()
    section = text.partition("## Positives per box by its size")[2].partition("##")[0]
    assert section.strip().startswith("Not recorded: atss, topk ")
    assert 'alt="Positives per box' not in (tmp_path / "out/comparison.html").read_text()
    assert "not known whether they began with the same weights" in text.replace("\n", " ")


@pytest.mark.slow
def test_one_seed_allows_no_conclusion(make, compare, tmp_path, capsys):
    runs = [make(rule, 4, 0.3, settings=(NAME, rule)) for rule in ("atss", "topk")]
    assert compare(*runs, "--reference", "topk", "--output", tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "atss: +0.000 AP compared with topk, with one seed" in out
    assert "With one seed the spread is unknown" in out
    text = (tmp_path / "out/comparison.md").read_text()
    assert "| atss | +0.000 |" in text and "±" not in text.partition("| rule |")[2].split("\n\n")[0]


@pytest.mark.slow
def test_no_seed_in_common(make, compare, tmp_path, capsys):
    runs = [make(rule, seed, settings=(NAME, rule)) for seed, rule in enumerate(("atss", "topk"))]
    assert compare(*runs, "--output", tmp_path / "out") == 0
    assert "topk: has no seed in common with atss" in capsys.readouterr().out


@pytest.mark.slow
def test_runs_whose_data_are_gone_are_compared_but_for_their_detections(
    make, compare, tmp_path, capsys
):
    runs = [make(rule, settings=(NAME, rule)) for rule in ("atss", "topk")]
    (tmp_path / "images" / "boxes.json").unlink()
    assert compare(*runs, "--output", tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert f"scores and IoUs of detections are not compared for {runs[0]}: " in out
    assert "| atss | – | – | – | – | – |" in (tmp_path / "out/comparison.md").read_text()


def test_a_data_set_by_code_needs_to_be_allowed(make, tmp_path):
    from dynamic_atss.comparison.ground_truth import GroundTruthReader

    run = read_run(make("a", settings=("DATASETS.TEST", ("format.py:Mine:x",))))
    with pytest.raises(UserError, match="names code: add --allow-code"):
        GroundTruthReader()(run)


def test_mistakes(make, compare, tmp_path, capsys):
    run, out = make("first", settings=(NAME, "atss")), tmp_path / "out"
    same = make("second", settings=(NAME, "atss"))
    cut = make("cut", settings=(NAME, "topk"))
    (cut / "model_final.pth").unlink()
    for folders, message in {
        (run, tmp_path / "fist"): f"{tmp_path}/fist: there is no such folder; give the OUTPUT_DIR "
        f"of a run; the nearest is {tmp_path}/first",
        (run, tmp_path / "images"): "holds no run (no config.yaml)",
        (run, same): f"{run} and {same} have the same settings and SEED 0",
        (run, cut): f"{cut}: training or test is not complete; resume it",
        (): "nothing to compare: give --config-file FILE --rules",
    }.items():
        assert compare(*folders, "--output", out) == 2
        assert message in error_of(capsys)
    assert compare(run, "--reference", "ats", "--output", out) == 2
    assert "--reference 'ats': give one of atss; the nearest is" in error_of(capsys)
    assert not out.exists()
