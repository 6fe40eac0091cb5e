"""`mer weights`: what is listed can be built, fetched, compared and converted; mistakes are one line."""

from __future__ import annotations

import hashlib
import http.server
import shutil
import ssl
import subprocess
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tiny
import torch
from torch import Tensor, nn

from mer.encoders import catalogue, fetch, weights
from mer.encoders.catalogue import Published
from mer.errors import UserError
from mer.weights_command import convert, table

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def entry(name: str = "net", files: tuple[str, ...] = ("net.pth",), **facts: Any) -> Published:
    facts = {"source": "https://weights.invalid/net/", "licence": "MIT", "about": "nothing", "page": "a page"} | facts
    return Published(name, "mer.encoders.FrameCNN", files=files, **facts)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder of weights, and a catalogue of one file and one folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("MER_WEIGHTS", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    several = {"files": ("config.json",), "one_of": ("model.safetensors", "pytorch_model.bin")}
    monkeypatch.setattr(catalogue, "CATALOGUE", entries := {})
    monkeypatch.setattr("mer.weights_command.CATALOGUE", entries)
    entries["net"] = entry(sha256={"net.pth": DIGEST[:8]})
    entries["hub"] = entry("hub", **several, page="https://huggingface.co/owner/hub")
    entries["asked"] = entry("asked", ("asked.pt",), source=None, page="https://example.org/asked")
    return tmp_path / "cache" / "mer" / "weights"


# -- where weights are ---------------------------------------------------------------------------------------------------


def test_a_mirror_comes_before_the_cache_and_that_before_other_libraries_caches(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="mer weights fetch net"):
        catalogue.locate("net")
    torch_hub = tmp_path / "cache" / "torch" / "hub" / "checkpoints"
    for folder in (torch_hub, here, tmp_path / "mirror"):
        folder.mkdir(parents=True)
        (folder / "net.pth").write_bytes(CONTENT)
        monkeypatch.setenv("MER_WEIGHTS", str(tmp_path / "mirror"))
        assert catalogue.locate("net") == folder / "net.pth"


def test_a_folder_counts_when_all_of_it_is_there(here: Path, tmp_path: Path) -> None:
    (here / "hub").mkdir(parents=True)
    (here / "hub" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="not on this machine"):
        catalogue.locate("hub")
    (here / "hub" / "pytorch_model.bin").write_bytes(CONTENT)
    assert catalogue.locate("hub") == here / "hub"
    kept = tmp_path / "cache" / "huggingface" / "hub" / "models--owner--hub"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("abc")
    shutil.move(here / "hub", kept / "snapshots" / "abc")
    assert catalogue.locate("hub") == kept / "snapshots" / "abc"


def test_a_path_is_a_path_whatever_the_catalogue_says(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").write_bytes(CONTENT)
    assert catalogue.locate("net") == Path("net")
    assert catalogue.locate("other.pth") == Path("other.pth")


def test_the_list_says_what_is_here(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here.mkdir(parents=True)
    (here / "net.pth").write_bytes(CONTENT)
    assert tiny.mer("weights", "list") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[-1] for row in rows[1:4]] == ["yes", "MIT", "hand"]
    assert len({line.index("MIT") for line in table().splitlines()[1:]}) == 1


def test_show_gives_lines_for_a_config(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tiny.mer("weights", "show", "net") == 0
    out = capsys.readouterr().out
    assert "https://weights.invalid/net/net.pth" in out
    assert f"{DIGEST[:8]}...  net.pth" in out
    assert "encoder_weights: {video: net}" in out
    assert tiny.mer("weights", "show", "ne") == 2
    assert "Perhaps it is net." in tiny.one_line(capsys.readouterr().err)


# -- fetch ---------------------------------------------------------------------------------------------------------------


class Server(http.server.BaseHTTPRequestHandler):
    """Serves what `pages` holds; an answer is bytes, a status, or an address to go to."""

    pages: ClassVar[dict[str, bytes | int | str]] = {}
    cut = 0

    def do_GET(self) -> None:
        answer = self.pages.get(self.path, 404)
        if isinstance(answer, int):
            self.send_error(answer)
        elif isinstance(answer, str):
            self.send_response(302)
            self.send_header("Location", answer)
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer) + self.cut))
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.HTTPServer]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(Server, "pages", {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


PLAIN = fetch.Opener(("http",))


def at(server: http.server.HTTPServer, scheme: str = "http", **facts: Any) -> Published:
    return entry(source=f"{scheme}://localhost:{server.server_port}/", **facts)


def test_a_download_has_its_name_when_it_is_complete_and_right(server: http.server.HTTPServer, tmp_path: Path) -> None:
    Server.pages["/net.pth"] = CONTENT
    (line,) = fetch.fetch(at(server, sha256={"net.pth": DIGEST}), tmp_path, through=PLAIN)
    assert "sha256 as published" in line
    assert (tmp_path / "net.pth").read_bytes() == CONTENT
    Server.pages.clear()
    (line,) = fetch.fetch(at(server), tmp_path, through=PLAIN)
    assert f"{DIGEST} (none is known to compare with), already there" in line


@pytest.mark.parametrize(
    ("answer", "facts", "message"),
    [
        (CONTENT, {"sha256": {"net.pth": "0123abcd"}}, f"its sha256 is {DIGEST}, published is 0123abcd"),
        (b"\n<!DOCTYPE html><html>log in</html>", {}, "a page instead of weights"),
        (b"version https://git-lfs.github.com/spec/v1", {}, "a page instead of weights"),
        (404, {}, "does not exist"),
        (403, {}, r"was not reached \(HTTP 403 Forbidden\)\. Download net\.pth where there is internet, put into"),
        ("ftp://localhost/net.pth", {}, "sends on to ftp://localhost/net.pth, which is not https"),
        ("file:///etc/passwd", {}, "file:///etc/passwd.* is not allowed"),
    ],
)
def test_what_is_not_the_published_file_leaves_nothing_behind(
    server: http.server.HTTPServer, tmp_path: Path, answer: bytes | int | str, facts: dict[str, Any], message: str
) -> None:
    Server.pages["/net.pth"] = answer
    with pytest.raises(UserError, match=message):
        list(fetch.fetch(at(server, **facts), tmp_path / "to", through=PLAIN))
    assert not list(tmp_path.rglob("*.*"))


def test_a_download_that_breaks_off_leaves_nothing_and_says_where_to_put_the_file(
    server: http.server.HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Server.pages["/net.pth"] = CONTENT
    monkeypatch.setattr(Server, "cut", 5)
    with pytest.raises(UserError, match=rf"Download net\.pth where there is internet, put into {tmp_path}"):
        list(fetch.fetch(at(server), tmp_path, through=PLAIN))
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(Server, "cut", 0)
    monkeypatch.setattr(fetch, "_MOST", 100)
    with pytest.raises(UserError, match="larger than"):
        list(fetch.fetch(at(server), tmp_path, through=PLAIN))


def test_of_a_folder_the_file_that_the_source_has_is_enough(server: http.server.HTTPServer, tmp_path: Path) -> None:
    Server.pages.update({"/config.json": b"{}", "/pytorch_model.bin": CONTENT})
    facts = {"files": ("config.json",), "one_of": ("model.safetensors", "pytorch_model.bin")}
    assert len(list(fetch.fetch(at(server, **facts), tmp_path, through=PLAIN))) == 2
    assert sorted(p.name for p in (tmp_path / "net").iterdir()) == ["config.json", "pytorch_model.bin"]
    del Server.pages["/pytorch_model.bin"]
    shutil.rmtree(tmp_path / "net")
    with pytest.raises(UserError, match=r"pytorch_model\.bin does not exist"):
        list(fetch.fetch(at(server, **facts), tmp_path, through=PLAIN))


def test_only_https_is_opened(server: http.server.HTTPServer, tmp_path: Path) -> None:
    Server.pages["/net.pth"] = CONTENT
    with pytest.raises(UserError, match="not an https address"):
        list(fetch.fetch(at(server), tmp_path))
    with pytest.raises(UserError, match="not an https address"):
        list(fetch.fetch(entry(source=f"file://{tmp_path}/"), tmp_path))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
def test_https_is_checked_against_certificates(
    server: http.server.HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Server.pages.update({"/net.pth": "/moved.pth", "/moved.pth": CONTENT})
    with pytest.raises(UserError, match="CERTIFICATE_VERIFY_FAILED"):
        list(fetch.fetch(at(server, "https"), tmp_path / "to"))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert list(fetch.fetch(at(server, "https"), tmp_path / "to"))
    assert (tmp_path / "to" / "net.pth").read_bytes() == CONTENT
    Server.pages["/moved.pth"] = f"http://localhost:{server.server_port}/net.pth"
    with pytest.raises(UserError, match="which is not https"):
        list(fetch.fetch(at(server, "https"), tmp_path / "again"))


def test_without_internet_the_command_says_what_to_put_where(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tiny.mer("weights", "fetch", "net") == 2  # the domain does not exist
    line = tiny.one_line(capsys.readouterr().err)
    assert f"Download net.pth where there is internet, put into {here}." in line
    assert tiny.mer("weights", "fetch", "asked") == 2
    line = tiny.one_line(capsys.readouterr().err)
    assert f"by hand: https://example.org/asked. Put asked.pt into {here}." in line


def test_a_mirror_is_copied_from_and_a_file_that_is_here_is_compared(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror" / "hub").mkdir(parents=True)
    (tmp_path / "mirror" / "net.pth").write_bytes(CONTENT)
    (tmp_path / "mirror" / "hub" / "config.json").write_text("{}")
    assert tiny.mer("weights", "fetch", "net", "--from", str(tmp_path / "mirror")) == 0
    assert (here / "net.pth").read_bytes() == CONTENT
    assert "licence: MIT" in capsys.readouterr().out
    assert tiny.mer("weights", "fetch", "hub", "--from", str(tmp_path / "mirror")) == 2
    assert "no model.safetensors or pytorch_model.bin of hub in it" in tiny.one_line(capsys.readouterr().err)
    monkeypatch.setenv("MER_WEIGHTS", str(tmp_path / "mirror"))
    assert tiny.mer("weights", "fetch", "net") == 0
    assert f"{tmp_path / 'mirror' / 'net.pth'}: sha256 begins {DIGEST[:8]}" in capsys.readouterr().out
    (tmp_path / "mirror" / "net.pth").write_bytes(b"something else")
    assert tiny.mer("weights", "fetch", "net") == 2
    assert "is not what was published" in tiny.one_line(capsys.readouterr().err)


# -- convert -------------------------------------------------------------------------------------------------------------


class RecorderMeter:
    """As DFER scripts pickle one into a checkpoint."""

    def __init__(self) -> None:
        self.curve = [0.1, 0.2]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def training() -> dict[str, Any]:
    """What a training script keeps beside the weights."""
    net = network()
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, float)
    return {"optimizer": optimizer.state_dict(), "scheduler": scheduler, "recorder": RecorderMeter(), "epoch": 3}


LAYOUTS: dict[str, Any] = {
    "mma-dfer": lambda s: {"epoch": 25, "state_dict": {f"module.{k}": v for k, v in s.items()}, **training()},
    "swinface": lambda s: {
        "epoch": 1,
        "state_dict_backbone": s,
        "state_dict_om": s,
        "state_lr_scheduler": RecorderMeter(),
    },
    "mmaction2": lambda s: {"meta": {"hook": RecorderMeter()}, "state_dict": OrderedDict(s)},
    "slowfast": lambda s: {"epoch": 2, "model_state": s, "cfg": "text"},
    "plain": lambda s: s,
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_converted_file_holds_the_keys_and_tensors_that_the_file_would_give(
    tmp_path: Path, layout: str, zipped: bool
) -> None:
    content = LAYOUTS[layout](network().state_dict())
    path = tmp_path / "file.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    convert(path, tmp_path / "out.safetensors")
    found, wanted = weights.tensors(tmp_path / "out.safetensors"), weights.flat(content, path)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) and found[key].dtype == wanted[key].dtype for key in wanted)
    table = weights.KeyTable(
        "any", pairs=((r"^", "state_dict_om."),) if layout == "swinface" else (), unused=((r"", "x"),)
    )
    weights.load(network(), tmp_path / "out.safetensors", (table,))


def test_the_command_says_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = network().state_dict()
    torch.save({"state_dict": state, **training()}, tmp_path / "file.pth")
    with pytest.raises(UserError, match="mer weights convert"):
        weights.tensors(tmp_path / "file.pth")
    assert tiny.mer("weights", "convert", str(tmp_path / "file.pth")) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'file.safetensors'}: {len(state)} tensors")
    assert second == "left out: optimizer (12 tensors), scheduler, recorder, epoch"
    assert f"{__name__}.RecorderMeter" in third
    assert tiny.mer("weights", "convert", str(tmp_path / "file.pth")) == 2
    assert "exists" in tiny.one_line(capsys.readouterr().err)


def test_shared_scattered_and_single_numbers_are_written(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    content: dict[str, Tensor] = {
        "a": whole,
        "b": whole.t(),
        "c": whole[1],
        "n": torch.tensor(7),
        "e": torch.zeros(0, 2),
    }
    content["wide"] = torch.ones(1, 2).expand(3, 2)
    torch.save(content, tmp_path / "file.bin")
    convert(tmp_path / "file.bin", tmp_path / "out" / "file.safetensors")
    found = weights.tensors(tmp_path / "out" / "file.safetensors")
    assert found.keys() == content.keys()
    assert all(torch.equal(found[key], content[key]) and found[key].shape == content[key].shape for key in content)


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04")
    torch.save({"epoch": 3, "who": RecorderMeter()}, tmp_path / "empty.pth")
    for name, message in {"broken.pth": "damaged", "empty.pth": "no tensors", "none.pth": "no such file"}.items():
        with pytest.raises(UserError, match=message):
            convert(tmp_path / name)
    with pytest.raises(UserError, match="tensors alone"):
        convert(tmp_path / "a.safetensors")
    assert not list(tmp_path.glob("*.safetensors*"))
