"""Files that MODEL.WEIGHT names: a path, a catalog name or a URL that is fetched once."""

from __future__ import annotations

import fcntl
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dynamic_atss.errors import UserError
from dynamic_atss.files import cache_folder, replacement
from dynamic_atss.progress import progress
from dynamic_atss.weights.pip import PREFIX as PIP
from dynamic_atss.weights.pip import installed_file
from dynamic_atss.weights.urls import PREFIX, weight_url

_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 20


def weight_file(name: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None) -> Path:
    """The local file of a path, of `catalog://...`, or of a http(s) URL (`#name` names its file).

    cache_dir: where downloads are kept; None is $DYNAMIC_ATSS_CACHE or ~/.cache/dynamic_atss.
    `catalog://pip/...` is a file of an installed package and is never downloaded.
    Raises UserError for an unknown catalog name, for a package that is not installed (with the
    command), and for a failed download: with the URL and the place to put the file at by hand.
    """
    url = str(name)
    if url.startswith(PIP):
        return installed_file(url)
    if url.startswith(PREFIX):
        url = weight_url(url)
    if not url.startswith(("http://", "https://")):
        return Path(name).expanduser()
    target = Path(cache_dir or cache_folder()).expanduser() / _place(url)
    if target.is_file():
        return target
    try:
        _fetch_once(url, target)
    except (OSError, ValueError) as error:  # URLError and time-outs are OSErrors
        reason = getattr(error, "reason", None) or error.args[-1:] or error
        raise UserError(
            f"{url}: cannot be downloaded ({_plain(reason)}); put the file at {target}"
        ) from error
    return target


def _plain(reason: object) -> str:
    last = reason.args[-1] if isinstance(reason, Exception) and reason.args else reason
    return str(last[-1] if isinstance(last, tuple) else last)


def _place(url: str) -> Path:
    """host/folders/name: files of the same name from two places do not meet."""
    parts = urlsplit(url)
    folders = [p for p in unquote(parts.path).split("/") if p not in ("", ".", "..")]
    name = Path(unquote(parts.fragment)).name or (folders.pop() if folders else "weights")
    host = re.sub(r"[^\w.-]", "_", parts.netloc)
    return Path(host, *folders, name)


def _fetch_once(url: str, target: Path) -> None:
    """One process of the machine downloads; the others wait for its lock and find the file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f".{target.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel, however the process ends
        if not target.is_file():
            _download(url, target)


def _download(url: str, target: Path) -> None:
    with (
        urllib.request.urlopen(url.partition("#")[0], timeout=_TIMEOUT) as response,
        replacement(target) as file,
    ):
        size = int(response.headers.get("Content-Length") or 0)
        chunks = iter(lambda: response.read(_CHUNK), b"")
        for chunk in progress(chunks, target.name, total=-(-size // _CHUNK) or None):
            file.write(chunk)
        if size and file.tell() != size:
            raise OSError(f"{file.tell()} of {size} bytes came")
