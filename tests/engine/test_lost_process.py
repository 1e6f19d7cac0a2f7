"""Tests how lost processes are detected, with made-up times, and how processes find each other."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import TCPStore

from dynamic_atss.engine import launch, rendezvous
from dynamic_atss.engine.lost_process import Sight


@pytest.fixture(autouse=True)
def address(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "a")
    monkeypatch.setenv("MASTER_PORT", "29500")


def at(iteration: int, place: str = "step (trainer.py:1)", count: int = 1) -> dict:
    return {"iteration": iteration, "place": place, "count": count}


def seen(messages: list[dict], until: float = 10.0, *, silent: int | None = None) -> Sight:
    """Gives the sight of rank 0 after messages in every second. Rank `silent` sends only one."""
    sight = Sight([f"host{r}" for r in range(len(messages))], 0, timeout=5.0, now=0.0)
    for now in range(1, int(until) + 1):
        new = [{**x, "count": 1 if r == silent else now} for r, x in enumerate(messages)]
        sight.update(new, float(now))
    return sight


def test_processes_that_send_messages_are_no_trouble():
    sight = seen([at(3), at(3)])
    assert sight.trouble(10.5) == ""
    sight.iteration_began = 6.0
    assert sight.trouble(10.5) == ""


def test_a_silent_process_is_named_and_only_after_the_timeout():
    sight = seen([at(3), at(2, "read (data.py:7)"), at(3)], silent=1)
    assert sight.trouble(5.9) == ""
    text = sight.trouble(10.0)
    assert "no message for 5 s (SOLVER.TIMEOUT) from rank 1 (host1)" in text
    assert "iteration 2 in read (data.py:7)" in text and "host2" not in text


def test_a_process_that_sends_messages_but_makes_no_progress_is_named():
    """It is at another place than the others, which wait."""
    sight = seen([at(3), at(3, "loop (loss.py:4)"), at(3)])
    assert sight.trouble(10.5) == ""  # outside an iteration there is no limit
    sight.iteration_began = 4.0
    text = sight.trouble(10.5)
    assert "no progress for 5 s" in text and "rank 1 (host1), last seen at iteration 3" in text
    assert "loss.py:4" in text and "host0" not in text and "host2" not in text


def test_a_process_in_an_earlier_iteration_is_behind():
    assert seen([at(7), at(7), at(6)]).behind() == [2]


def test_a_store_that_does_not_answer_is_named_instead_of_processes():
    assert "no answer for 5 s (SOLVER.TIMEOUT) from a:29500" in seen([at(3), at(3)]).trouble(16.0)


def test_all_times_restart_after_this_process_was_stopped():
    sight = seen([at(3), at(3)])
    sight.iteration_began = 9.0
    sight.restart(1000.0)
    assert sight.trouble(1004.0) == "" != sight.trouble(1006.0)


@pytest.fixture
def store():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return TCPStore("127.0.0.1", port, is_master=True, timeout=timedelta(seconds=30))


def agree(store: TCPStore, ranks: list[int], world: int, seconds: float) -> list:
    def one(rank: int):
        connection = TCPStore("127.0.0.1", store.port, timeout=timedelta(seconds=30))
        return rendezvous._agree(connection, rank, world, time.monotonic() + seconds)

    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(one, ranks))


def test_the_processes_of_each_start_agree_on_a_new_name(store):
    """The store still holds entries of earlier starts with more processes."""
    names = []
    for world in (3, 2, 3):
        found = agree(store, list(range(world)), world, 60)
        assert len({name for name, _ in found}) == 1
        assert all(hosts == [socket.gethostname()] * world for _, hosts in found)
        names.append(found[0][0])
    assert len(set(names)) == 3


@pytest.mark.parametrize("before", [False, True])
def test_an_absent_process_is_named(store, before):
    """An absent process is named, also if it took part in an earlier start (`before`)."""
    if before:
        agree(store, [0, 1, 2], 3, 60)
    with pytest.raises(rendezvous._Absent, match=r"^rank 1 of 3$"):
        agree(store, [0, 2], 3, 1)


@pytest.mark.parametrize("name", ["job7", "none"])
def test_only_the_launcher_that_began_a_run_resumes_it(tmp_path, monkeypatch, name):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", name)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", f"/tmp/x/{name}_abc/attempt_0/0/error.json")
    assert not launch.began(tmp_path)
    launch.sign(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", f"/tmp/x/{name}_abc/attempt_1/1/error.json")
    assert launch.began(tmp_path)
    if name == "none":  # another launcher has another folder
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", "/tmp/x/none_def/attempt_0/0/error.json")
    else:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job8")
    assert not launch.began(tmp_path)


def test_without_a_launcher_no_run_is_marked(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    launch.sign(tmp_path)
    assert not launch.began(tmp_path) and not list(tmp_path.iterdir())


def test_processes_that_wait_in_the_same_iteration_are_not_behind():
    waiting = {**at(3, "average (distributed.py:9)"), "waits": True}
    assert seen([waiting, at(3, "read (loader.py:4)")]).behind() == [1]
    assert seen([at(3, "read (loader.py:4)"), waiting, waiting, at(3)]).behind() == [0, 3]
    elsewhere = {**waiting, "place": "gather (distributed.py:7)"}
    assert seen([waiting, elsewhere, waiting]).behind() == [1]


@pytest.mark.parametrize("content", [b"\xff\xfe\x80", b"job7" * 5000])
def test_a_damaged_mark_is_ignored(tmp_path, monkeypatch, content):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job7")
    (tmp_path / "launch").write_bytes(content)
    assert not launch.began(tmp_path)
