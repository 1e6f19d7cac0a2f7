"""Who has gone or stands still, by made-up clocks; how the processes of a start find each other."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import TCPStore

from dynamic_atss.engine import launch, meeting
from dynamic_atss.engine.watch import Sight


@pytest.fixture(autouse=True)
def address(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "a")
    monkeypatch.setenv("MASTER_PORT", "29500")


def at(iteration: int, place: str = "step (trainer.py:1)", count: int = 1) -> dict:
    return {"iteration": iteration, "place": place, "count": count}


def seen(told: list[dict], until: float = 10.0, *, but: int | None = None) -> Sight:
    """Of rank 0: all are heard every second; `but` says nothing new after the first."""
    sight = Sight([f"host{r}" for r in range(len(told))], 0, timeout=5.0, now=0.0)
    for now in range(1, int(until) + 1):
        messages = [{**x, "count": 1 if r == but else now} for r, x in enumerate(told)]
        sight.hear(messages, float(now))
    return sight


def test_nothing_is_said_of_processes_that_are_heard():
    sight = seen([at(3), at(3)])
    assert sight.trouble(10.5) == ""
    sight.moved = 6.0
    assert sight.trouble(10.5) == ""


def test_a_silent_process_is_named_and_only_after_the_timeout():
    sight = seen([at(3), at(2, "read (data.py:7)"), at(3)], but=1)
    assert sight.trouble(5.9) == ""
    text = sight.trouble(10.0)
    assert "not heard of for 5 s (SOLVER.TIMEOUT): rank 1 (host1)" in text
    assert "iteration 2 in read (data.py:7)" in text and "host2" not in text


def test_a_process_that_speaks_but_does_not_go_on_is_named():
    """The others wait at the same place, it does not."""
    sight = seen([at(3), at(3, "loop (loss.py:4)"), at(3)])
    assert sight.trouble(10.5) == ""  # outside an iteration any length is right
    sight.moved = 4.0
    text = sight.trouble(10.5)
    assert "no progress for 5 s" in text and "rank 1 (host1), last seen at iteration 3" in text
    assert "loss.py:4" in text and "host0" not in text and "host2" not in text


def test_of_processes_that_speak_the_one_of_an_earlier_iteration_is_behind():
    assert seen([at(7), at(7), at(6)]).behind() == [2]


def test_a_store_without_an_answer_is_told_before_the_processes_that_it_hides():
    assert "no answer for 5 s (SOLVER.TIMEOUT) from a:29500" in seen([at(3), at(3)]).trouble(16.0)


def test_after_a_stop_of_this_process_itself_all_are_given_time():
    sight = seen([at(3), at(3)])
    sight.moved = 9.0
    sight.forgive(1000.0)
    assert sight.trouble(1004.0) == "" != sight.trouble(1006.0)


@pytest.fixture
def store():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return TCPStore("127.0.0.1", port, is_master=True, timeout=timedelta(seconds=30))


def agree(store: TCPStore, ranks: list[int], world: int, seconds: float) -> list:
    def one(rank: int):
        own = TCPStore("127.0.0.1", store.port, timeout=timedelta(seconds=30))
        return meeting._agree(own, rank, world, time.monotonic() + seconds)

    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(one, ranks))


def test_each_start_has_a_name_of_its_own_that_all_know(store):
    """Also beside what earlier starts, of more processes, have left in the store."""
    names = []
    for world in (3, 2, 3):
        found = agree(store, list(range(world)), world, 60)
        assert len({name for name, _ in found}) == 1
        assert all(hosts == [socket.gethostname()] * world for _, hosts in found)
        names.append(found[0][0])
    assert len(set(names)) == 3


@pytest.mark.parametrize("before", [False, True])
def test_who_has_not_come_is_named(store, before):
    """before: it came to an earlier start"""
    if before:
        agree(store, [0, 1, 2], 3, 60)
    with pytest.raises(meeting._Absent, match=r"^rank 1 of 3$"):
        agree(store, [0, 2], 3, 1)


@pytest.mark.parametrize("name", ["job7", "none"])
def test_a_run_is_the_launchers_that_began_it(tmp_path, monkeypatch, name):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", name)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", f"/tmp/x/{name}_abc/attempt_0/0/error.json")
    assert not launch.began(tmp_path)
    launch.sign(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", f"/tmp/x/{name}_abc/attempt_1/1/error.json")
    assert launch.began(tmp_path)
    if name == "none":  # another launcher: it has another folder
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", "/tmp/x/none_def/attempt_0/0/error.json")
    else:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job8")
    assert not launch.began(tmp_path)


def test_without_a_launcher_no_run_is_a_launchers(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    launch.sign(tmp_path)
    assert not launch.began(tmp_path) and not list(tmp_path.iterdir())


def test_of_one_iteration_those_that_wait_for_the_others_are_not_behind():
    waiting = {**at(3, "average (distributed.py:9)"), "waits": True}
    assert seen([waiting, at(3, "read (loader.py:4)")]).behind() == [1]
    assert seen([at(3, "read (loader.py:4)"), waiting, waiting, at(3)]).behind() == [0, 3]
    elsewhere = {**waiting, "place": "gather (distributed.py:7)"}
    assert seen([waiting, elsewhere, waiting]).behind() == [1]


@pytest.mark.parametrize("content", [b"\xff\xfe\x80", b"job7" * 5000])
def test_a_damaged_signature_is_no_launchers(tmp_path, monkeypatch, content):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job7")
    (tmp_path / "launch").write_bytes(content)
    assert not launch.began(tmp_path)
