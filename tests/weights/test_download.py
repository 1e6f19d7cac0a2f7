"""Downloads of catalog names and URLs: once, completely or not at all, with advice on failure."""

import contextlib
import hashlib
import multiprocessing
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

import pytest

from dynamic_atss.errors import UserError
from dynamic_atss.weights import download
from dynamic_atss.weights.download import weight_file
from dynamic_atss.weights.urls import WEIGHTS, weight_url

CONTENT = b"weights" * 1000


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        redirect = "/to=" in self.path
        self.send_response(302 if redirect else 404 if "absent" in self.path else 200)
        if redirect:
            self.send_header("Location", unquote(self.path.partition("/to=")[2]))
        size = 10**12 if "huge" in self.path else len(CONTENT)
        if "endless" not in self.path:
            self.send_header("Content-Length", str(size))
        self.end_headers()
        if "drip" in self.path:
            self._drip()
        else:
            self.wfile.write(CONTENT[:100] if "short" in self.path else CONTENT)

    def _drip(self):
        """Sends a byte every 20 ms, after the length of the complete file."""
        with contextlib.suppress(OSError):  # the client closed the connection
            for byte in CONTENT:
                self.wfile.write(bytes([byte]))
                time.sleep(0.02)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.requests = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def _files(folder):
    return [p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock")]


def test_a_url_is_fetched_once_and_named_by_its_fragment(server, tmp_path):
    for _ in range(2):
        path = weight_file(f"{server.url}/a/download#model.pth", tmp_path)
        assert path.name == "model.pth" and path.read_bytes() == CONTENT
    assert server.requests == ["/a/download"]
    other = weight_file(f"{server.url}/b/download#model.pth", tmp_path)
    assert other != path and _files(tmp_path) != [path]


@pytest.mark.parametrize("folder", ["short", "absent"])
def test_an_incomplete_download_leaves_no_file(server, tmp_path, folder):
    with pytest.raises(UserError) as error:
        weight_file(f"{server.url}/{folder}/R.pkl", tmp_path)
    message = str(error.value)
    assert "\n" not in message and server.url in message and f"{folder}/R.pkl" in message
    assert _files(tmp_path) == []


def test_processes_that_start_together_fetch_once(server, tmp_path):
    context = multiprocessing.get_context("fork")
    url = f"{server.url}/x/R-50.pkl"
    jobs = [context.Process(target=weight_file, args=(url, tmp_path)) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(30)
    assert [job.exitcode for job in jobs] == [0] * 4 and server.requests == ["/x/R-50.pkl"]


def test_without_a_network_the_error_says_where_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAMIC_ATSS_CACHE", str(tmp_path))
    monkeypatch.setattr("dynamic_atss.weights.urls.ROOT", "http://nowhere.invalid/")
    with pytest.raises(UserError) as error:
        weight_file("catalog://ImageNetPretrained/MSRA/R-50", None)
    place = tmp_path / "nowhere.invalid/ImageNetPretrained/MSRA/R-50.pkl"
    message = str(error.value)
    assert str(place) in message and "http://nowhere.invalid/" in message and "\n" not in message
    place.write_bytes(b"by hand")
    assert weight_file("catalog://ImageNetPretrained/MSRA/R-50", None) == place


def test_catalog_urls_and_the_nearest_name():
    root = "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/"
    assert weight_url("catalog://ImageNetPretrained/MSRA/R-50") == root + "MSRA/R-50.pkl"
    assert (
        weight_url("catalog://ImageNetPretrained/FAIR/20171220/X-101-64x4d")
        == root + "FBResNeXt/X-101-64x4d.pkl"
    )
    assert sum(name.startswith("ImageNetPretrained/") for name in WEIGHTS) == 6
    with pytest.raises(UserError, match=r"nearest: catalog://ImageNetPretrained/MSRA/R-101$"):
        weight_url("catalog://ImageNetPretrained/MSRA/R101")


def test_a_path_stays_a_path(tmp_path):
    assert weight_file(tmp_path / "x.pth", None) == tmp_path / "x.pth"


@pytest.mark.parametrize(
    "url",
    [
        "htps://host/x.pth",
        "http:/host/x.pth",
        "https://",
        "http://:80/x",
        "file:///etc/passwd",
        "ftp://host/x.pth",
        "http://[::1/x.pth",
        "http://host:no/x",
        "data:/text,x",
        "http://host/x.pth#sha256=abc",
        "http://host/x.pth#sha256=",
        f"http://host/x.pth#sha256={'g' * 64}",
    ],
)
def test_mistyped_urls(tmp_path, url):
    with pytest.raises(UserError, match=r"MODEL\.WEIGHT .*give http\(s\)://host/path") as error:
        weight_file(url, tmp_path)
    assert url in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "//"])
def test_redirects_stay_with_http(server, tmp_path, to):
    with pytest.raises(UserError, match="cannot be downloaded"):
        weight_file(f"{server.url}/to={quote(to, safe='')}#x.pth", tmp_path)
    assert _files(tmp_path) == []
    other = f"{server.url}/other.pth"
    assert weight_file(f"{server.url}/to={quote(other, safe='')}#x.pth", tmp_path).is_file()


def test_a_redirect_from_https_to_http_is_refused():
    import urllib.request

    from dynamic_atss.weights.download import _Redirects

    asked = urllib.request.Request("https://host/x")
    with pytest.raises(OSError, match="redirects to http://host/y"):
        _Redirects().redirect_request(asked, None, 302, "Found", {}, "http://host/y")


def test_the_digest_of_a_cached_file_is_checked(server, tmp_path):
    right, wrong = hashlib.sha256(CONTENT).hexdigest(), "0" * 64
    with pytest.raises(UserError, match=rf"its sha256 is {right}, not {wrong}"):
        weight_file(f"{server.url}/x.pth#sha256={wrong}", tmp_path)
    assert _files(tmp_path) == []
    path = weight_file(f"{server.url}/x.pth#sha256={right.upper()}", tmp_path)
    assert path.name == "x.pth" and path.read_bytes() == CONTENT
    named = weight_file(f"{server.url}/of/a#y.pth&sha256={right}", tmp_path)
    assert named.name == "y.pth" and len(server.requests) == 3
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match="delete it to fetch it again"):
        weight_file(f"{server.url}/x.pth#sha256={right}", tmp_path)


def test_the_digest_in_the_names_of_the_catalog(server, tmp_path, monkeypatch):
    monkeypatch.setattr("dynamic_atss.weights.download._NAMED_BY_DIGEST", (server.url,))
    start = hashlib.sha256(CONTENT).hexdigest()[:8]
    assert weight_file(f"{server.url}/resnet50-{start}.pth", tmp_path).is_file()
    with pytest.raises(UserError, match="not 0676ba61"):
        weight_file(f"{server.url}/resnet50-0676ba61.pth", tmp_path)
    assert len(_files(tmp_path)) == 1


@pytest.mark.parametrize("name", ["huge", "endless"])
def test_no_more_than_the_limit_is_downloaded(server, tmp_path, monkeypatch, name):
    monkeypatch.setattr("dynamic_atss.weights.download.DOWNLOAD_BYTES", 5000)
    with pytest.raises(UserError, match="the limit is 5,000"):
        weight_file(f"{server.url}/{name}.pth", tmp_path)
    assert _files(tmp_path) == []


@pytest.mark.parametrize("path", ["/a/..%2f..%2fx", "/../../x", "/x#..", "/x#a/../../y", "//..//x"])
def test_files_stay_in_the_cache(server, tmp_path, path):
    cache = tmp_path / "cache"
    found = weight_file(server.url + path, cache)
    assert cache.resolve() in found.resolve().parents and _files(tmp_path) == [found]


def test_a_slow_download_is_given_up(server, tmp_path, monkeypatch):
    """The socket's time-out never expires: another byte always arrives in time."""
    monkeypatch.setattr(download, "_PATIENCE", 0.2)
    with pytest.raises(UserError, match=r"too slow: \d+ bytes in 0 seconds.*put"):
        weight_file(f"{server.url}/drip#model.pth", tmp_path)
    assert not _files(tmp_path)


ANSWERS = {
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n", "not HTTP"),
    "cut": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhel",
        "connection was lost",
    ),
    "long": (b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n", "not HTTP"),
    "headers": (b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 300 + b"\r\n", "not HTTP"),
    "negative": (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc", "size of -5 bytes"),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "answer is empty"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_malformed_answer_is_one_line_and_leaves_no_file(tmp_path, answer):
    content, problem = ANSWERS[answer]
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                with contextlib.suppress(OSError):  # the client closed the connection
                    connection.sendall(content)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(UserError, match=problem):
            weight_file(f"http://127.0.0.1:{listening.getsockname()[1]}/a.pth", tmp_path)
    assert not _files(tmp_path)


@pytest.mark.parametrize("url", ["http://h/a b.pth", "http://h/a\nb", "http://exa mple/a.pth"])
def test_a_url_with_a_blank_is_one_line(tmp_path, url):
    with pytest.raises(UserError, match="not an address"):
        weight_file(url, tmp_path)


def test_the_key_sha256_may_have_capital_letters(server, tmp_path):
    with pytest.raises(UserError, match="its sha256 is"):
        weight_file(f"{server.url}/a.pth#SHA256={'0' * 64}", tmp_path)
