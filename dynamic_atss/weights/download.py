"""Finds the file of MODEL.WEIGHT: a path, a catalog name, or a URL that is downloaded once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dynamic_atss.errors import UserError
from dynamic_atss.files import cache_folder, replacement
from dynamic_atss.progress import progress
from dynamic_atss.quoting import shown
from dynamic_atss.reading import DOWNLOAD_BYTES, WEIGHT_BYTES, open_file
from dynamic_atss.weights.pip import PREFIX as PIP
from dynamic_atss.weights.pip import installed_file
from dynamic_atss.weights.urls import OPEN_MMLAB, PREFIX, TORCHVISION, weight_url

_TIMEOUT = 30  # seconds without a byte, after which a download fails
_SLOWEST = 10_000  # bytes per second on average; a slower download is given up
_PATIENCE = 60  # seconds before the speed is checked
_CHUNK = 1 << 20
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # not a drive letter
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")  # a URL must not have blanks and control characters
_DIGEST = re.compile(r"[0-9a-f]{64}")
# Sites whose file names end with the first digits of the file's sha256.
_NAMED_BY_DIGEST = (TORCHVISION, OPEN_MMLAB)
_HOW = "give http(s)://host/path, with #sha256=<64 hexadecimal digits> to have it checked"


@dataclass(frozen=True)
class _Address:
    """Describes a URL to download.

    Attributes:
        url: the URL without its fragment.
        place: the path of the file in the cache.
        digest: the first digits of the file's sha256, or "" if they are unknown.
    """

    url: str
    place: Path
    digest: str


def weight_file(name: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None) -> Path:
    """Returns the local file of a path, of `catalog://...` or of a http(s) URL.

    Args:
        name: a URL may end with `#name` (the name of the file), with `#sha256=<hex>` (its digest,
            which is checked), or with `#name&sha256=<hex>`. torchvision's file names include the
            start of the digest. `catalog://pip/...` is a file of an installed package and is never
            downloaded.
        cache_dir: keeps the downloads. None is $DYNAMIC_ATSS_CACHE or ~/.cache/dynamic_atss.

    Raises UserError for an unknown catalog name and for a mistyped URL. Raises it for a package
    that is not installed, with the command that installs it. Raises it for a failed download, with
    the URL and the path at which to put the file by hand.
    """
    url = str(name)
    if url.startswith(PIP):
        return installed_file(url)
    if url.startswith(PREFIX):
        url = weight_url(url)
    if not _ADDRESS.match(url) or os.path.exists(url):
        return Path(name).expanduser()
    address = _address(url)
    target = Path(cache_dir or cache_folder()).expanduser() / address.place
    try:
        if not os.path.isfile(target):
            _fetch_once(address, target)
        elif len(address.digest) == 64:
            _check_kept(address, target)
    except (OSError, ValueError, HTTPException) as error:  # URLError and time-outs are OSErrors
        reason = getattr(error, "reason", None) or _bad_answer(error) or error.args[-1:] or error
        raise UserError(
            f"{url}: cannot be downloaded ({_plain(reason)}); put the file at {target}"
        ) from error
    return target


def _bad_answer(error: Exception) -> str:
    """Describes a malformed answer of the server. Returns "" for errors of other kinds."""
    if isinstance(error, IncompleteRead):
        return f"the connection was lost after {len(error.partial):,} bytes of a part"
    if isinstance(error, HTTPException):
        return f"the server's answer is not HTTP: {shown(str(error))}"
    return ""


def _plain(reason: object) -> str:
    last = reason.args[-1] if isinstance(reason, Exception) and reason.args else reason
    return str(last[-1] if isinstance(last, tuple) else last)


def _address(url: str) -> _Address:
    """Makes the `_Address` of a URL.

    Raises UserError for a URL that is not of http(s), or for a malformed digest.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        valid = valid and not _FORBIDDEN.search(url.partition("#")[0])
    except ValueError:  # a port that is not a number, brackets that do not close
        valid = False
    if not valid:
        raise UserError(f"MODEL.WEIGHT {url}: not an address to download from: {_HOW}")
    *names, digest = _fragments(unquote(parts.fragment))
    if digest and not _DIGEST.fullmatch(digest):
        raise UserError(f"MODEL.WEIGHT {url}: its sha256 is not 64 hexadecimal digits: {_HOW}")
    digest = digest or _digest_in_name(url)
    place = _place(parts.netloc, unquote(parts.path), "".join(names))
    return _Address(url.partition("#")[0], place, digest)


def _fragments(fragment: str) -> tuple[str, str]:
    """Splits a fragment into name and sha256. Each of them is "" if it is not given."""
    parts = fragment.split("&")
    given = [part[7:] or "none" for part in parts if part[:7].lower() == "sha256="]
    names = [part for part in parts if part[:7].lower() != "sha256="]
    return "&".join(names), "".join(given).lower()


def _digest_in_name(url: str) -> str:
    found = re.search(r"-([0-9a-f]{8})\.pth$", url)
    return found[1] if found and url.startswith(_NAMED_BY_DIGEST) else ""


def _place(host: str, path: str, name: str) -> Path:
    """Returns host/folders/name, so that files of the same name from two sites do not collide."""
    folders = [p for p in path.split("/") if p not in ("", ".", "..")]
    name = os.path.basename(name).strip(".") or (folders.pop() if folders else "weights")
    return Path(re.sub(r"[^\w.-]", "_", host).strip("."), *folders, name)


def _fetch_once(address: _Address, target: Path) -> None:
    """Downloads in one process of the machine. The others wait for its lock and find the file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f".{target.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel releases it when the process ends
        if not target.is_file():
            _download(address, target)


def _download(address: _Address, target: Path) -> None:
    """Downloads to `target`. Raises OSError or ValueError, and leaves no file then."""
    opener = urllib.request.build_opener(_Redirects)
    with opener.open(address.url, timeout=_TIMEOUT) as response, replacement(target) as file:
        size, digest = int(response.headers.get("Content-Length") or 0), hashlib.sha256()
        _check_size(size)
        total = -(-size // _CHUNK) or None
        for chunk in progress(_chunks(response), target.name, total=total):
            digest.update(chunk)
            _check_size(file.tell() + len(chunk))
            file.write(chunk)
        if size and file.tell() != size:
            raise OSError(f"only {file.tell()} of {size} bytes arrived")
        if not file.tell():
            raise OSError("the server's answer is empty")
        _check_digest(digest.hexdigest(), address)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http(s), but not from https to http, which anybody can forge."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        allowed = ("https://",) if req.full_url.startswith("https://") else ("https://", "http://")
        if not newurl.lower().startswith(allowed):
            raise OSError(f"it redirects to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_size(size: int) -> None:
    if size < 0:
        raise OSError(f"the server reports a size of {size} bytes")
    if size > DOWNLOAD_BYTES:
        raise OSError(f"it has {size:,} bytes or more; the limit is {DOWNLOAD_BYTES:,}")


def _chunks(response: Any) -> Iterator[bytes]:
    """Yields chunks of about _CHUNK bytes. Raises OSError if they arrive too slowly."""
    begin, received, chunk = time.monotonic(), 0, bytearray()
    while piece := response.read1(_CHUNK):  # read() would wait for the full chunk
        chunk += piece
        received += len(piece)
        _check_pace(received, time.monotonic() - begin)
        if len(chunk) >= _CHUNK:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def _check_pace(size: int, seconds: float) -> None:
    """Raises OSError if too few bytes arrived.

    A server that sends single bytes never lets _TIMEOUT expire.
    """
    if seconds > _PATIENCE and size < _SLOWEST * seconds:
        raise OSError(f"too slow: {size:,} bytes in {seconds:.0f} seconds")


def _check_digest(found: str, address: _Address) -> None:
    if not found.startswith(address.digest):
        raise OSError(f"its sha256 is {found}, not {address.digest}: it is another file")


def _check_kept(address: _Address, target: Path) -> None:
    """Raises UserError if the file in the cache has another digest."""
    with open_file(target, WEIGHT_BYTES) as file:
        digest = hashlib.sha256()
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
    found = digest.hexdigest()
    if found != address.digest:
        raise UserError(
            f"{target}: its sha256 is {found}, not {address.digest}: delete it to fetch it again, "
            "or correct the digest"
        )
