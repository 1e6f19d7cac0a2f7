"""Reads weight files without running any code from them."""

from __future__ import annotations

import logging
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from dynamic_atss.errors import UserError
from dynamic_atss.reading import WEIGHT_BYTES, open_file
from dynamic_atss.suggest import path_advice
from dynamic_atss.weights.archive import ALL_KNOWN, STREAM, ZIP, read_stream, read_zip
from dynamic_atss.weights.bounds import DamagedError
from dynamic_atss.weights.find_weights import refuse_object
from dynamic_atss.weights.object_builders import finished
from dynamic_atss.weights.safe_pickle import Machine, RefusedError, Skipped

_log = logging.getLogger(__name__)
_DAMAGED = "truncated, damaged or not a weight file: fetch or copy it again"


def read_weights(path: Path) -> Any:
    """Reads tensors, numpy arrays and plain containers from a file.

    Any other object becomes a `Skipped` with the name of its class. These names are logged at debug
    level. Raises UserError for a file that is missing or damaged, that consists of one such object,
    or that calls a function that could act on the machine.
    """
    try:
        with open_file(path, WEIGHT_BYTES) as file:
            content = finished(_read(file, os.fstat(file.fileno()).st_size))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such weight file (MODEL.WEIGHT): {path_advice(Path(path))}"
        ) from None
    except (zipfile.BadZipFile, DamagedError) as error:
        raise UserError(f"{path}: {_DAMAGED} ({error})") from error
    except RefusedError as refused:
        raise UserError(
            f"{path}: refused, the file calls {refused}, which is no part of weights and could run "
            "code; nothing was run: get the file from a source that you trust"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a forged or damaged stream can fail anywhere
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
    """Lists the classes of the objects that were not read."""
    if isinstance(value, Skipped):
        return [value.name]
    if not isinstance(value, dict | list | tuple) or id(value) in seen:
        return []
    seen.add(id(value))
    items = [*value, *value.values()] if isinstance(value, dict) else value
    return [name for item in items for name in _skipped(item, seen)]


def outline(path: Path) -> Any:
    """Reads an archive of `torch.save` without the bytes of its tensors (device "meta").

    Raises OSError, UserError, or any other exception for an incomplete file.
    """
    with open_file(path, WEIGHT_BYTES) as file:
        return finished(read_zip(file, os.fstat(file.fileno()).st_size, tensors=False))


def read_checkpoint(path: Path) -> Any:
    """Reads a checkpoint of this project and checks it against its checksums.

    Raises UserError for any other file. A checkpoint holds no objects that must be skipped.
    """
    content = read_weights(path)
    names = _skipped(content, set())
    if names:
        raise UserError(
            f"{path}: refused, the file holds {names[0]}, which is no part of a checkpoint and "
            "could run code; give the file as MODEL.WEIGHT to load its weights only"
        )
    return content
