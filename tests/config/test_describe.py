from dynamic_atss import cli
from dynamic_atss.config.defaults import default_config
from dynamic_atss.config.describe import changed, keys
from dynamic_atss.config.load import known_keys, load_config


def test_every_key_is_found_with_its_default():
    found, defaults = keys(), default_config()
    assert set(known_keys(defaults)) == {k for k, v in found.items() if v.default != "CN()"}
    for key in known_keys(defaults):
        value = defaults
        for name in key.split("."):
            value = value[name]
        assert eval(found[key].default) == value, key


def test_a_meaning_ends_where_another_comment_begins():
    found = keys()
    assert found["INPUT.VERTICAL_FLIP_PROB_TRAIN"].meaning == "vertical flip"
    assert found["SOLVER.CLIP_GRAD_NORM"].meaning == "largest norm of the gradient; 0 = off"
    assert found["TEST.EXPECTED_RESULTS_SIGMA_TOL"].meaning.endswith("more is an error")
    assert found["DATASETS.TRAIN"].meaning.endswith("separated by commas, are joined")


def test_the_keys_of_help_have_a_meaning_and_nothing_says_new():
    for key in (*cli.TRAINING_KEYS, *cli.TEST_KEYS):
        assert len(keys()[key].meaning) > 7, key
    assert not any("(new)" in key.meaning for key in keys().values())


def test_changed_are_the_values_that_differ():
    given = ["SOLVER.BASE_LR", "0.25", "SOLVER.MAX_ITER", "40000"]
    cfg = load_config(None, [*given, "MODEL.ASSIGNER.ARGS.topk", "5"])
    assert changed(cfg) == {"SOLVER.BASE_LR": 0.25, "MODEL.ASSIGNER.ARGS.topk": 5}
