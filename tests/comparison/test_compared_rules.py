"""Tests how rules are read from the command line."""

import pytest

from dynamic_atss.comparison.arguments import split_at_key
from dynamic_atss.comparison.rules import parsed
from dynamic_atss.errors import UserError


@pytest.mark.parametrize(
    "text, name, arguments, label",
    [
        ("atss", "atss", {}, "atss"),
        ("topk,topk=5", "topk", {"topk": 5}, "topk,topk=5"),
        (
            "d,use=anchor,warmup=1e3",
            "d",
            {"use": "anchor", "warmup": 1e3},
            "d,use=anchor,warmup=1e3",
        ),
        ("d,sizes=(1,2),b=True", "d", {"sizes": (1, 2), "b": True}, "d,sizes=(1,2),b=True"),
        ("my/r.py:Best", "my/r.py:Best", {}, "r.py:Best"),
        ("my/r.py:Best,t=0.5", "my/r.py:Best", {"t": 0.5}, "r.py:Best,t=0.5"),
        ("topk:topk=5", "topk", {"topk": 5}, "topk,topk=5"),
        ("mod.sub:Best,t=a:b", "mod.sub:Best", {"t": "a:b"}, "mod.sub:Best,t=a:b"),
    ],
)
def test_name_and_arguments(text, name, arguments, label):
    (rule,) = parsed([text])
    assert (rule.name, rule.arguments, rule.label) == (name, arguments, label)


def test_folders_are_plain_names_and_differ():
    texts = ["atss", "topk,topk=5", "a/r.py:Best", "b/r.py:Best", "d,x=a b", "d,x=a-b", "d,x='ä'"]
    folders = [rule.folder for rule in parsed(texts)]
    assert folders[:2] == ["atss", "topk,topk=5"]
    assert len(set(folders)) == len(texts)
    assert all(name.isascii() and "/" not in name and " " not in name for name in folders)


@pytest.mark.parametrize(
    "texts, message",
    [
        ([], "give two or more rules"),
        (["atss", "topk", "atss"], "atss is given twice"),
        (["topk,topk=5,topk=6"], "an argument is given twice"),
        ([":topk=5"], "write rules as NAME"),
        (["topk=5"], "write rules as NAME"),
    ],
)
def test_mistakes(texts, message):
    with pytest.raises(UserError, match=message):
        parsed(texts)


@pytest.mark.parametrize("key", ["SEED", "SOLVER.MAX_ITER", "MODEL.ASSIGNER.ARGS.topk"])
def test_keys_after_a_list_do_not_belong_to_it(key):
    assert split_at_key(["atss", "my.py:Rule", key, "3", "DTYPE", "x"]) == (
        ["atss", "my.py:Rule"],
        [key, "3", "DTYPE", "x"],
    )
    assert split_at_key(["atss", "topk"]) == (["atss", "topk"], [])
