"""Files from the network arrive whole or not at all, and a failure says what to do.
从网络下载的文件要么完整到达，要么不留痕迹；失败时会告诉用户怎么办。
"""

import gzip
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from utils import file_io_util
from utils.errors import UserError
from utils.file_io_util import download, has_md5

CONTENT = bytes(range(256)) * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    """/good sends the file, /wrong another one, /short and /stuck break off, anything else is not there."""

    def do_GET(self):
        kind = self.path.strip("/")
        if kind not in {"good", "wrong", "short", "stuck"}:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write({"good": CONTENT, "wrong": CONTENT[::-1]}.get(kind, CONTENT[:1000]))
        if kind == "stuck":
            self.server.finished.wait(10)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.finished = threading.Event()
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.finished.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def test_a_file_arrives_once(address, tmp_path, monkeypatch, capsys):
    path = tmp_path / "set" / "file.gz"
    assert download(f"{address}/good", path, MD5) == path
    assert path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]
    assert "file.gz: 100%" in capsys.readouterr().err
    monkeypatch.setattr(file_io_util, "urlopen", None)
    assert download(f"{address}/good", path, MD5) == path


def test_a_local_address_works_too(tmp_path):
    (tmp_path / "mirror.gz").write_bytes(CONTENT)
    assert has_md5(download((tmp_path / "mirror.gz").as_uri(), tmp_path / "file.gz", MD5), MD5)


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize(
    "kind, reason", [("wrong", "checksum"), ("short", ""), ("stuck", "timed out"), ("gone", "404"), ("", "")]
)
def test_a_failure_says_what_to_do_and_damages_nothing(kind, reason, address, tmp_path):
    url = f"{address}/{kind}" if kind else f"http://127.0.0.1:{closed_port()}/file.gz"
    path = tmp_path / "file.gz"
    path.write_bytes(b"an older file")
    with pytest.raises(UserError) as error:
        download(url, path, MD5, offline="--dataset shapes needs no download", timeout=0.5)
    message = str(error.value)
    for part in (url, reason, MD5, f"put it at {path}", "--dataset shapes needs no download"):
        assert part in message
    assert "\n" not in message
    assert path.read_bytes() == b"an older file" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_a_users_mistake(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot download"):
        download("file:///nowhere", tmp_path / "file" / "x.gz", MD5)


def test_an_interruption_leaves_nothing_behind(address, tmp_path, monkeypatch):
    class Interrupting(file_io_util.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    monkeypatch.setattr(file_io_util, "tqdm", Interrupting)
    with pytest.raises(KeyboardInterrupt):
        download(f"{address}/good", tmp_path / "file.gz", MD5)
    assert not any(tmp_path.iterdir())


def test_a_packed_file_is_unpacked_and_checked(tmp_path):
    text = "ein Hund\n" * 100
    packed = tmp_path / "mirror.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    md5, path = hashlib.md5(text.encode()).hexdigest(), tmp_path / "train.de"
    assert download(packed.as_uri(), path, md5, gzipped=True).read_text() == text

    for damage in (packed.read_bytes()[:-20], packed.read_bytes().replace(b"\n", b"\r\n") + b"x", text.encode()):
        packed.write_bytes(damage)
        path.unlink(missing_ok=True)
        with pytest.raises(UserError, match="cannot download"):
            download(packed.as_uri(), path, md5, gzipped=True)
        assert not path.exists()
