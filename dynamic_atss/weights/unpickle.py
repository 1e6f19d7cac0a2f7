"""Reading of weight files without running anything that they hold."""

from __future__ import annotations

import logging
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from dynamic_atss.errors import UserError
from dynamic_atss.reading import WEIGHT_BYTES, open_file
from dynamic_atss.weights.archive import ALL_KNOWN, STREAM, ZIP, read_stream, read_zip
from dynamic_atss.weights.bounds import DamagedError
from dynamic_atss.weights.inert import Machine, RefusedError, Skipped
from dynamic_atss.weights.known import finished
from dynamic_atss.weights.wrappers import refuse_object

_log = logging.getLogger(__name__)
_DAMAGED = "truncated, damaged or not a weight file: fetch or copy it again"


def read_weights(path: Path) -> Any:
    """What the file holds: tensors, numpy arrays and plain containers.

    Anything else is not read: a `Skipped` with the name of its class stands in its place, and the
    names are logged at debug level. Raises UserError for a file that is missing, damaged, that is
    such an object as a whole, or that calls what could act on the machine.
    """
    try:
        with open_file(path, WEIGHT_BYTES) as file:
            content = finished(_read(file, os.fstat(file.fileno()).st_size))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such weight file; set MODEL.WEIGHT to an existing one"
        ) from None
    except (zipfile.BadZipFile, DamagedError) as error:
        raise UserError(f"{path}: {_DAMAGED} ({error})") from error
    except RefusedError as refused:
        raise UserError(
            f"{path}: refused, the file calls {refused}, which is no part of weights and could run "
            "code; nothing of it was run: take the file from whom you trust"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a forged or broken stream can fail anywhere
        raise UserError(f"{path}: {_DAMAGED}") from error
    if isinstance(content, Skipped):
        raise refuse_object(content, path)
    names = sorted(set(_skipped(content, set())))
    if names:
        _log.debug("%s: not read, objects of %s", path, ", ".join(names))
    return content


def _read(file: BinaryIO, size: int) -> Any:
    head = file.read(len(STREAM))
    file.seek(0)
    if head.startswith(ZIP):
        return read_zip(file, size)
    if head == STREAM:
        return read_stream(file, size)
    return Machine(file, ALL_KNOWN, size).load()


def _skipped(value: Any, seen: set[int]) -> list[str]:
    """The classes of what was not read."""
    if isinstance(value, Skipped):
        return [value.name]
    if not isinstance(value, dict | list | tuple) or id(value) in seen:
        return []
    seen.add(id(value))
    items = [*value, *value.values()] if isinstance(value, dict) else value
    return [name for item in items for name in _skipped(item, seen)]


def outline(path: Path) -> Any:
    """What an archive of `torch.save` holds but for the bytes of its tensors, which stay on the
    disk.

    Raises: OSError, UserError and whatever else a file that is not whole leads to.
    """
    with open_file(path, WEIGHT_BYTES) as file:
        return finished(read_zip(file, os.fstat(file.fileno()).st_size, tensors=False))


def load_own(path: Path) -> Any:
    """A checkpoint of this project; its bytes are held against their checksums.

    It holds nothing that has to be skipped. Raises UserError of one line for any other file.
    """
    content = read_weights(path)
    names = _skipped(content, set())
    if names:
        raise UserError(
            f"{path}: refused, the file holds {names[0]}, which is no part of a checkpoint and "
            "could run code; use it as MODEL.WEIGHT instead"
        )
    return content
