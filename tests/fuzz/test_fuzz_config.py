"""Configurations: damaged YAML, values of any kind, and overrides of any key."""

import json

import pytest
from helpers_fuzz import REFUSED, bytes_of, damaged, outcome, scalars, spoilt, texts
from hypothesis import given
from hypothesis import strategies as st

from dynamic_atss.builders import check_config
from dynamic_atss.config.defaults import default_config
from dynamic_atss.config.load import known_keys, load_config
from dynamic_atss.config.special_keys import FREE_SECTIONS
from dynamic_atss.yaml_text import load_yaml

pytestmark = pytest.mark.slow

DEFAULTS = default_config()
KEYS = sorted(known_keys(DEFAULTS))
YAML = """# a comment
MODEL: &model
  ATSS: {NUM_CLASSES: 4, ANCHOR_SIZES: (64, 128), ASPECT_RATIOS: [1.0]}
  WEIGHT: "catalog://ImageNetPretrained/MSRA/R-50"
SOLVER: {BASE_LR: 1e-2, STEPS: [10, 20], MAX_ITER: 30}
DATASETS:
  TRAIN: ("coco:a.json:a", 'voc:b:train')
  TEST: !!str x
INPUT:
  MIN_SIZE_TRAIN: 800
  <<: {MAX_SIZE_TRAIN: 1333}
"""
TREE = load_yaml(YAML)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("config")


def check_loaded(*arguments):
    """Of the types of the defaults and frozen, or refused; the second look may refuse, too."""
    cfg = outcome(load_config, *arguments)
    if cfg is REFUSED:
        return
    assert cfg.is_frozen() and set(KEYS) <= {*known_keys(cfg)}
    for key in KEYS:
        before, after = DEFAULTS, cfg
        for name in key.split("."):
            before, after = before[name], after[name]
        assert type(before) is type(after), key
    outcome(check_config, cfg)


@given(data=st.one_of(damaged([YAML.encode()]), bytes_of(texts)))
def test_damaged_yaml(folder, data):
    (folder / "a.yaml").write_bytes(data)
    check_loaded(folder / "a.yaml")


@given(tree=spoilt(TREE))
def test_values_of_any_kind(folder, tree):
    (folder / "b.yaml").write_text(json.dumps(tree))
    check_loaded(folder / "b.yaml")


@st.composite
def literals(draw):
    """A value as one writes it on the command line."""
    value = draw(st.one_of(scalars, st.lists(scalars, max_size=4), st.tuples(scalars, scalars)))
    return value if isinstance(value, str) else _written(value)


def _written(value):
    try:
        return repr(value)
    except ValueError:  # more than 4300 digits
        return "9" * 5000


KEY = st.one_of(
    st.sampled_from(KEYS),
    st.sampled_from(KEYS).map(lambda key: key[:-1]),
    st.sampled_from([f"{section}.own" for section in FREE_SECTIONS]),
    texts,
)
WORDS = st.lists(st.tuples(KEY, literals()), min_size=1, max_size=3)


@given(pairs=WORDS)
def test_overrides(pairs):
    check_loaded(None, [word for pair in pairs for word in pair])


@given(words=st.lists(st.one_of(KEY, literals()), max_size=5))
def test_words_that_are_no_pairs(words):
    check_loaded(None, words)


@given(text=st.one_of(texts, damaged([YAML.encode()]).map(lambda x: x.decode("utf-8", "replace"))))
def test_yaml_texts(text):
    """Texts alone where they are asked for; a fault is a ValueError of one line."""
    try:
        found = load_yaml(text, as_texts=True)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    assert found is None or isinstance(found, str | list | dict)
