"""Records the contents of code and annotations that a run trains with, and refuses other contents.

Settings name files. Without this record, seeds of an edited rule would be averaged with seeds of
the rule as it was before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from dynamic_atss.comparison.plan import Job
from dynamic_atss.config.code import code_files
from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.engine.newest_checkpoint import LAST
from dynamic_atss.errors import UserError
from dynamic_atss.files import write_text
from dynamic_atss.reading import MB, read_text

NAME = "inputs.json"  # in a run's folder: checksums by file


def record_inputs(jobs: Sequence[Job], datasets: Iterable[DetectionDataset]) -> None:
    """Writes the checksums of each run that has not begun.

    Raises:
        UserError: a run has begun with other contents.
    """
    data = {str(one.annotations): _of_annotations(one.content) for one in datasets}
    found = [(job, data | {str(x): _of_file(x) for x in code_files(job.cfg)}) for job in jobs]
    for job, inputs in found:
        _refuse_changes(job, inputs)
    for job, inputs in found:
        job.folder.mkdir(parents=True, exist_ok=True)
        write_text(job.folder / NAME, json.dumps(inputs, indent=1) + "\n")


def _refuse_changes(job: Job, inputs: dict[str, str]) -> None:
    path = job.folder / NAME
    if not (job.folder / LAST).is_file() or not path.is_file():
        return  # nothing is trained, or by a version that recorded no contents
    try:
        recorded = json.loads(read_text(path, MB))
        changed = [name for name, checksum in inputs.items() if recorded.get(name) != checksum]
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete the folder") from None
    if changed:
        raise UserError(
            f"{job.folder}: its run began with other contents of {changed[0]}; choose another "
            "--output, or delete the folder"
        )


def _of_file(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check the path") from None


def _of_annotations(content: Annotations) -> str:
    """Computes a checksum of the images and their objects. Works for every format."""
    checksum = hashlib.sha256("\n".join([*content.class_names, *content.names]).encode())
    for array in (content.sizes, content.xywh, content.classes, content.image_index, content.crowd):
        checksum.update(array.tobytes())
    return checksum.hexdigest()
