"""Loader workers that meet a limit of the system, or die: a one-line error, and no endless wait."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys

import pytest
from helpers_data import box, open_coco, write_coco

from dynamic_atss.data.loader import build_train_loader
from dynamic_atss.errors import UserError

SIZES = dict.fromkeys(range(1, 12), (40, 60))


def make(tmp_path, transform=None):
    path = write_coco(tmp_path, SIZES, [box(i, i, [1, 1, 5, 6]) for i in SIZES])
    return open_coco(path, transform=transform)


def read(data, stop=20, at=None):
    """Reads all batches of two workers. at: called after the second batch."""
    for number, _ in enumerate(build_train_loader(data, ims_per_batch=1, stop=stop, num_workers=2)):
        if number == 1 and at is not None:
            at()


@pytest.fixture(autouse=True)
def no_worker_is_left():
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, r"a loader worker was killed \(SIGKILL\).*memory.*DATALOADER.NUM_WORKERS"),
        (signal.SIGBUS, r"shared memory .*\(bus error; /dev/shm has [\d.]+ MiB\).*--shm-size"),
        (signal.SIGSEGV, r"ended by itself \(SIGSEGV\): DATALOADER.NUM_WORKERS 0 shows where"),
    ],
)
def test_a_worker_that_is_killed(tmp_path, number, message):
    def kill():
        os.kill(multiprocessing.active_children()[0].pid, number)

    with pytest.raises(UserError, match=message):
        read(make(tmp_path), at=kill)


def test_a_worker_that_exits(tmp_path):
    def leave(image, gt, rng):
        os._exit(7)

    with pytest.raises(UserError, match=r"ended by itself \(exit code 7\)"):
        read(make(tmp_path, leave))


def test_a_dead_worker_does_not_interrupt_a_step(tmp_path):
    """The error is raised for the missing batch, not in the middle of a step."""
    batches = iter(build_train_loader(make(tmp_path), ims_per_batch=1, stop=20, num_workers=2))
    next(batches)
    before = signal.getsignal(signal.SIGCHLD)
    worker = multiprocessing.active_children()[0]
    worker.kill()
    worker.join()
    assert signal.getsignal(signal.SIGCHLD) is before
    with pytest.raises(UserError, match="SIGKILL"):
        list(batches)


@pytest.mark.parametrize("spare", [0, 1, 2, 3, 4, 6, 8, 12])
def test_a_worker_that_runs_out_of_descriptors(tmp_path, spare):
    """With so many left, opening the image, the shared memory or its transfer fails."""
    held: list[int] = []

    def hold(image, gt, rng):
        if not held:
            resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
            try:
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                for descriptor in held[len(held) - spare :]:
                    os.close(descriptor)
        return image, gt

    with pytest.raises(UserError, match=r"too many open files .*`ulimit -n \d+`.*NUM_WORKERS"):
        read(make(tmp_path, hold))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "the memory is full: lower DATALOADER.NUM_WORKERS"),
        (OSError(12, "Cannot allocate memory"), "the memory is full"),
        (
            RuntimeError("unable to write to file </torch_7_8_9>: No space left on device (28)"),
            r"shared memory .* \(No space left on device \(28\); /dev/shm has",
        ),
    ],
)
def test_other_errors_of_a_worker_that_are_limits(tmp_path, error, message):
    def fail(image, gt, rng):
        raise error

    with pytest.raises(UserError, match=message) as caught:
        read(make(tmp_path, fail))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [ValueError("no space"), OSError(28, "No space left on device")])
def test_errors_of_the_users_code_are_no_limits(tmp_path, error):
    def fail(image, gt, rng):
        raise error

    with pytest.raises(UserError, match=rf"{error.args[-1]}.*test_workers\.py:\d+"):
        read(make(tmp_path, fail))


READ = """
import resource, sys
from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.loader import build_train_loader
data = CocoDataset(sys.argv[1] + "/a.json", sys.argv[1] + "/images", training=True)
resource.setrlimit(resource.RLIMIT_NOFILE, tuple(map(int, sys.argv[2:4])))
loader = build_train_loader(data, ims_per_batch=1, stop=20, num_workers=2)
print(sum(1 for _ in loader), "batches")
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def limited(tmp_path, soft, hard):
    make(tmp_path)
    return subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path), str(soft), str(hard)],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_too_few_descriptors_are_an_error_before_the_first_batch(tmp_path):
    done = limited(tmp_path, 30, 30)
    message = done.stderr.splitlines()[-1]
    assert "UserError: too few open files are allowed (the limit is 30, " in message
    assert "`ulimit -n 4096`" in message and "batches" not in done.stdout


@pytest.mark.slow
def test_a_limit_that_the_process_may_raise_is_raised(tmp_path):
    done = limited(tmp_path, 30, 500)
    assert done.stdout.splitlines() == ["20 batches", "500"], done.stderr
