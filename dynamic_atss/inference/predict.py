"""A prediction from its arguments to its files: what `dynamic-atss predict` calls."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dynamic_atss.data.frames import Reading
from dynamic_atss.engine.interrupt import Stopped
from dynamic_atss.errors import UserError
from dynamic_atss.inference.model import Stream, load
from dynamic_atss.inference.outputs import RESULTS, TABLE, Outputs, output_folder
from dynamic_atss.inference.sources import Source, is_video, of_files, open_source
from dynamic_atss.progress import progress


def predict(
    weights: str,
    inputs: Sequence[str],
    output: str = "",
    *,
    loading: Mapping[str, Any],
    looking: Mapping[str, Any],
    pictures: bool = True,
    short_side: int = 1,
    overwrite: bool = False,
) -> int:
    """Detects in `inputs` and writes what is found to a folder.

    Args:
        loading, looking: arguments of `load`, and of the `Model` that it returns.
        pictures: draw them, too · short_side: smaller ones are drawn enlarged to it.

    Returns:
        the exit code: 0, or 1 if a picture or frame could not be read and the rest was done.

    Raises:
        UserError: nothing could be done.
        Stopped: a signal came; what is drawn stays, and a line says so.
    """
    if short_side < 1:
        raise UserError(f"--short-side {short_side}: give 1 pixel or more")
    model = load(weights, **loading)
    source = _source(inputs, model.restored.reading)
    if source.note:
        print(source.note, file=sys.stderr)
    folder = output_folder(output, source, overwrite=overwrite)
    stream: Stream = model(source, stream=True, **looking)
    stream.tell = partial(tqdm.write, file=sys.stderr)  # beside the bar of progress
    outputs = Outputs(folder, source, pictures=pictures, short_side=short_side)
    begin = time.perf_counter()
    done = _write(stream, outputs)
    seconds = (time.perf_counter() - begin) / max(done, 1)  # a camera may be stopped at once
    print(
        f"{done} {_noun(source, done)}, {1000 * seconds:.0f} ms each, with drawing and writing: "
        f"{outputs.summary() or 'nothing found'}"
    )
    if stream.broken:
        print(f"{len(stream.broken)} could not be read: left out, by name above")
    print(f"{RESULTS}, {TABLE}{' and what is drawn' if pictures else ''}: {folder}")
    return 1 if stream.broken else 0


def _write(stream: Stream, outputs: Outputs) -> int:
    """How many pictures were done. Raises UserError: none."""
    done = 0
    with outputs, _end_of_camera(stream.source):
        try:
            for found in progress(stream, "predict", stream.total, rank=0):
                outputs.add(found, found.frame or 1 + done + len(stream.broken))
                done += 1
        except Stopped as stopped:
            _tell_of_stop(stopped, stream.source, done, outputs.folder)
            raise
        if not done:
            count = len(stream.broken)
            first = stream.broken[0] if count else "the input gave no picture"
            raise UserError(first + (f" (so all {count})" if count > 1 else ""))
    return done


@contextlib.contextmanager
def _end_of_camera(source: Source) -> Iterator[None]:
    """A camera has no end but the signal that stops the program."""
    try:
        yield
    except Stopped:
        if source.video is None or not source.video.live:
            raise


def _tell_of_stop(stopped: Stopped, source: Source, done: int, folder: Path) -> None:
    """Says what a signal leaves behind; it is how a camera ends."""
    if source.video is not None and source.video.live:
        return
    stays = "" if source.video else f"what is drawn stays in {folder}, "
    tqdm.write(
        f"stopped by {stopped.name} after {done} {_noun(source, done)}: {stays}{RESULTS}, {TABLE}"
        f"{' and the video' if source.video else ''} are not written",
        sys.stderr,
    )


def _noun(source: Source, count: int) -> str:
    return ("frame" if source.video else "picture") + "s" * (count != 1)


def _source(inputs: Sequence[str], reading: Reading) -> Source:
    """Raises UserError: no such thing, or several that are not all pictures."""
    if len(inputs) == 1:
        given = inputs[0]
        camera = given.isdecimal() and not os.path.lexists(given)
        return open_source(int(given) if camera else given, reading)
    files = [Path(name).expanduser() for name in inputs]
    for file in files:
        if is_video(file):
            raise UserError(f"--input {file}: is a video; give each video to a command of its own")
        if not file.is_file():
            what = "is a folder" if file.is_dir() else "no such picture"
            raise UserError(f"--input {file}: {what}; of several inputs each is a picture's file")
    folder = Path(os.path.commonpath([file.absolute().parent for file in files]))
    return of_files([file.absolute() for file in files], reading, folder)
