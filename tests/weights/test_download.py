"""Catalog names and URLs: fetched once, whole or not at all, with a way out without a network."""

import multiprocessing
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dynamic_atss.errors import UserError
from dynamic_atss.weights.download import weight_file
from dynamic_atss.weights.urls import WEIGHTS, weight_url

CONTENT = b"weights" * 1000


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        self.send_response(404 if "absent" in self.path else 200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:100] if "short" in self.path else CONTENT)

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


def _whole(folder):
    return [p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock")]


def test_a_url_is_fetched_once_and_named_by_its_fragment(server, tmp_path):
    for _ in range(2):
        path = weight_file(f"{server.url}/a/download#model.pth", tmp_path)
        assert path.name == "model.pth" and path.read_bytes() == CONTENT
    assert server.requests == ["/a/download"]
    other = weight_file(f"{server.url}/b/download#model.pth", tmp_path)
    assert other != path and _whole(tmp_path) != [path]


@pytest.mark.parametrize("what", ["short", "absent"])
def test_half_a_file_is_no_file(server, tmp_path, what):
    with pytest.raises(UserError) as error:
        weight_file(f"{server.url}/{what}/R.pkl", tmp_path)
    message = str(error.value)
    assert "\n" not in message and server.url in message and f"{what}/R.pkl" in message
    assert _whole(tmp_path) == []


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
