"""Runs `dynamic-atss predict`: loads the model, detects and writes the files."""

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

from dynamic_atss.data.orientation import ReadOptions
from dynamic_atss.engine.interrupt import Stopped
from dynamic_atss.errors import UserError
from dynamic_atss.inference.model import THRESHOLD, Stream, load
from dynamic_atss.inference.output_paths import RESULTS, TABLE, output_folder
from dynamic_atss.inference.outputs import Outputs
from dynamic_atss.inference.picture import is_broken_link, is_video, lone_video
from dynamic_atss.inference.sources import Source, of_files, open_source
from dynamic_atss.progress import progress
from dynamic_atss.viz.draw import MAX_SIDE


def predict(
    weights: str,
    inputs: Sequence[str],
    output: str = "",
    *,
    load_options: Mapping[str, Any],
    call_options: Mapping[str, Any],
    pictures: bool = True,
    short_side: int = 1,
    overwrite: bool = False,
) -> int:
    """Detects objects in `inputs` and writes the results to a folder.

    Args:
        load_options: keyword arguments of `load`.
        call_options: keyword arguments of the call of the model.
        pictures: draws the pictures, too.
        short_side: enlarges smaller drawn pictures to this short side in pixels.

    Returns:
        The exit code: 0, or 1 if some pictures or frames could not be read.

    Raises:
        UserError: an argument is wrong, or no picture could be read.
        Stopped: a signal came. The drawn pictures stay.
    """
    if not 1 <= short_side <= MAX_SIDE:
        raise UserError(f"--short-side {short_side}: give 1 to {MAX_SIDE} pixels")
    model = load(weights, **load_options)
    source = _source(inputs, model.restored.reading)
    if source.note:
        print(source.note, file=sys.stderr)
    folder = output_folder(output, source, pictures=pictures, overwrite=overwrite)
    stream: Stream = model(source, stream=True, **call_options)
    stream.report = report = partial(tqdm.write, file=sys.stderr)  # keeps the progress bar intact
    outputs = Outputs(folder, source, pictures=pictures, short_side=short_side, report=report)
    threshold = call_options.get("threshold", THRESHOLD)
    begin = time.perf_counter()
    done = _write(stream, outputs)
    seconds = (time.perf_counter() - begin) / max(done, 1)  # a stopped camera may give no frame
    print(
        f"{done} {_noun(source, done)}, {1000 * seconds:.0f} ms each, with drawing and writing: "
        f"{outputs.summary() or 'nothing found'} (scores from {threshold:g} on)"
    )
    if stream.broken:
        print(f"{len(stream.broken)} could not be read: skipped, see the names above")
    drawn = f" and the {'video' if source.video else 'pictures'}" if pictures else ""
    print(f"{RESULTS}, {TABLE}{drawn}: {folder}")
    return 1 if stream.broken else 0


def _write(stream: Stream, outputs: Outputs) -> int:
    """Writes all results; returns the number of pictures. Raises UserError if there are none."""
    done = 0
    with outputs, _end_of_camera(stream.source):
        try:
            for found in progress(stream, "predict", stream.total, rank=0):
                outputs.add(found, found.frame or 1 + done + len(stream.broken))
                done += 1
        except Stopped as stopped:
            _report_stop(stopped, stream.source, done, outputs.folder)
            raise
        if not done:
            count = len(stream.broken)
            first = stream.broken[0] if count else "the input gave no picture"
            raise UserError(first + (f" (all {count} failed)" if count > 1 else ""))
    return done


@contextlib.contextmanager
def _end_of_camera(source: Source) -> Iterator[None]:
    """Treats the signal that stops a camera as its end, because a camera has no other."""
    try:
        yield
    except Stopped:
        if source.video is None or not source.video.live:
            raise


def _report_stop(stopped: Stopped, source: Source, done: int, folder: Path) -> None:
    """Says which files are kept after a signal. For a camera, a signal is the normal end."""
    if source.video is not None and source.video.live:
        return
    stays = "" if source.video else f"drawn pictures stay in {folder}, "
    tqdm.write(
        f"stopped by {stopped.name} after {done} {_noun(source, done)}: {stays}{RESULTS}, {TABLE}"
        f"{' and the video' if source.video else ''} are not written",
        sys.stderr,
    )


def _noun(source: Source, count: int) -> str:
    return ("frame" if source.video else "picture") + "s" * (count != 1)


def _source(inputs: Sequence[str], reading: ReadOptions) -> Source:
    """Opens the inputs.

    Raises:
        UserError: an input does not exist, or one of several inputs is no picture.
    """
    if len(inputs) == 1:
        given = inputs[0]
        camera = given.isdecimal() and not os.path.lexists(given)
        return open_source(int(given) if camera else given, reading)
    files = [Path(os.path.expanduser(name)) for name in inputs]
    for file in files:
        if is_video(file):
            raise lone_video(file)
        if not os.path.isfile(file) and not is_broken_link(file):  # these are reported when read
            reason = "is a folder" if file.is_dir() else "no such picture"
            raise UserError(f"--input {file}: {reason}; several inputs must all be picture files")
    folder = Path(os.path.commonpath([file.absolute().parent for file in files]))
    return of_files([file.absolute() for file in files], reading, folder)
