"""Files that lie, break or attack: each is refused with one clear line."""

from __future__ import annotations

import json
import os
import pickle
import platform
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from osasis import OsasisError, UserError, load_base, load_style
from osasis.config import artefacts
from osasis.formats.safetensors_file import read_manifest
from osasis.hub import fence, unpickle, unpickle_worker
from osasis.hub.released import Architecture, build_base

from ..standin import QUOTA_PAGE, draw


class Command:
    """A pickle that would run a command when it is loaded."""

    def __init__(self, line: str) -> None:
        self.line = line

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.line,)


def refusal(path: Path) -> str:
    """The one line that reading `path` gets."""
    with pytest.raises(OsasisError) as caught, unpickle.unpickle(path):
        pass
    message = str(caught.value)
    assert path.name in message and "\n" not in message
    return message


def bomb(path: Path, names: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return path


def cut(path: Path) -> Path:
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def overlapping(path: Path) -> Path:
    """A central directory that lists the same bytes many times over."""
    content = bytes(100_000)
    bomb(path, {"x/data.pkl": b"N.", "x/data/0": content})
    with zipfile.ZipFile(path, "a") as archive:
        entry = archive.getinfo("x/data/0")
        archive.filelist += [entry] * 50
        archive._didModify = True  # type: ignore[attr-defined]
    return path


def write(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (write(b""), "is not a file of torch.save"),
        (write(b"hello, this is text"), "is not a file of torch.save"),
        (write(QUOTA_PAGE), "is a web page (Google Drive - Quota exceeded)"),
        (write(pickle.dumps({"a": Command("true")}, 2)), "a pickle in the format before torch 1.6"),
        (cut, "is cut off or damaged"),
        (lambda p: bomb(p, {"x/data.pkl": bytes(10**7)}, zipfile.ZIP_DEFLATED), "a zip bomb"),
        (overlapping, "claims to hold more than its"),
        (lambda p: bomb(p, {"x/data.pkl": b"N.", "../../evil": b"x"}), "names that lead out of it"),
        (lambda p: bomb(p, {"readme.txt": b"x"}), "a zip file, but not one of torch.save"),
        (lambda p: bomb(p, {"x/data.pkl": b"not a pickle"}), "is refused"),
    ],
)
def test_containers(make: Callable[[Path], object], line: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    make(path)
    assert line in refusal(path)


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"a": torch.zeros(10)}, path)
    monkeypatch.setattr(unpickle, "MAX_PICKLE", 10)
    assert "has a pickle of" in refusal(path)
    monkeypatch.setattr(unpickle, "MAX_BYTES", 100)
    assert "the limit is" in refusal(path)
    assert "does not exist" in refusal(tmp_path / "none.ckpt")


def test_a_pickle_that_would_run_a_command(tmp_path: Path) -> None:
    path, trace = tmp_path / "last.ckpt", tmp_path / "it ran"
    torch.save({"a": torch.zeros(1), "b": Command(f"touch '{trace}'")}, path)
    assert "posix.system" in refusal(path) or "nt.system" in refusal(path)
    assert not trace.exists()


def test_numbers_that_are_not_there_and_nesting(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "expanded.ckpt")
    assert "claims more numbers than the file holds" in refusal(tmp_path / "expanded.ckpt")
    nested: list[Any] = [torch.zeros(1)]
    for _ in range(60):
        nested = [nested, nested]  # 2**60 paths
    torch.save(nested, tmp_path / "nested.ckpt")
    assert "nested too deeply" in refusal(tmp_path / "nested.ckpt")


def test_weights_that_are_not_finite(
    small: Architecture, checkpoints: Path, tmp_path: Path
) -> None:
    state = draw(small.ddpm_shapes(), 1)
    state["out.2.bias"][0] = float("nan")
    torch.save(state, tmp_path / "p2.pt")
    target = tmp_path / "x.safetensors"
    with pytest.raises(OsasisError, match=r"out\.2\.bias holds numbers that are not finite"):
        build_base(target, "x", small, checkpoints / "last.ckpt", tmp_path / "p2.pt", {})
    assert not target.exists()


FENCES = """
import ctypes, os, socket, sqlite3, subprocess, sys, _posixsubprocess
sys.path[:0] = [sys.argv[1]]
from osasis.hub import fence
place, kind, port = sys.argv[2], sys.argv[3], int(sys.argv[4])
libc = ctypes.CDLL(None, use_errno=True)
output = open(os.path.join(place, "out"), "wb")
path = lambda name: os.path.join(place, name)
if kind == "namespace":
    fence.leave_network()
elif kind == "kernel":
    if not fence._filter_calls():
        sys.exit("no filter")
else:
    sys.addaudithook(fence._hook)

def c(call, *args):
    if getattr(libc, call)(*args) < 0:
        raise OSError(call)

def started():
    r, w = os.pipe()
    pid = _posixsubprocess.fork_exec(
        [b"/bin/sh", b"-c", b"true"], [b"/bin/sh"], True, (), None, None, -1, -1, -1, -1, -1, -1,
        r, w, False, False, -1, None, None, None, -1, None, False)

deeds = {
    "connect": lambda: socket.create_connection(("127.0.0.1", port), 5),
    "system": lambda: os.system("true") and 1 / 0,
    "program": lambda: subprocess.run(["true"]),
    "other": lambda: open(path("other"), "w"),
    "other2": lambda: os.open(path("other2"), os.O_WRONLY | os.O_CREAT),
    "emptied": lambda: os.open(path("precious"), os.O_RDONLY | os.O_TRUNC),
    "remove": lambda: os.remove(path("precious")),
    "truncate": lambda: os.truncate(path("precious"), 0),
    "mkdir": lambda: os.mkdir(path("made")),
    "utime": lambda: os.utime(path("precious"), (0, 0)),
    "chmod": lambda: os.chmod(path("precious"), 0o777),
    "kill": lambda: os.kill(os.getppid(), 0),
    "database": lambda: sqlite3.connect(path("db")).execute("create table a(b)"),
    "output": lambda: output.write(b"x"),
    "read": lambda: open(path("precious")).read(),
}
if kind == "kernel":
    deeds |= {
        "mkfifo": lambda: os.mkfifo(path("fifo")),
        "mknod": lambda: os.mknod(path("node")),
        "link": lambda: os.link(path("precious"), path("linked")),
        "fork": os.fork,
        "fork_exec": started,
        "c unlink": lambda: c("unlink", os.fsencode(path("precious"))),
        "c open": lambda: c("open", os.fsencode(path("precious")), os.O_WRONLY),
        "c socket": lambda: c("socket", socket.AF_INET, socket.SOCK_STREAM, 0),
        "c ptrace": lambda: c("ptrace", 16, os.getppid(), 0, 0),
        "c shmget": lambda: c("shmget", 7, 4096, 0o1600),
        "thread": lambda: __import__("threading").Thread(target=print).start(),
    }
for name, do in deeds.items():
    try:
        do()
        print(name.replace(" ", "-"), "done")
    except Exception:
        print(name.replace(" ", "-"), "refused")
"""


@pytest.mark.parametrize("kind", ["hook", "kernel"])
def test_the_process_that_reads_pickles_is_fenced_in(kind: str, hub: Any, tmp_path: Path) -> None:
    if kind == "kernel" and (sys.platform != "linux" or platform.machine() not in fence._PLACE):
        pytest.skip("the filter of system calls is Linux's, on x86-64 and arm64")
    (tmp_path / "precious").write_text("mine")
    found = attempts(kind, hub, tmp_path)
    allowed = {"output", "read", "thread"} if kind == "kernel" else {"output", "read"}
    assert {name for name, outcome in found.items() if outcome == "done"} == allowed
    assert (tmp_path / "precious").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "precious"]


def test_the_process_that_reads_pickles_has_no_network(hub: Any, tmp_path: Path) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root is sure to get a namespace")
    (tmp_path / "precious").write_text("mine")
    assert attempts("namespace", hub, tmp_path)["connect"] == "refused"


def attempts(kind: str, hub: Any, place: Path) -> dict[str, str]:
    """What came of each deed inside one part of the fence."""
    source = str(Path(fence.__file__).parents[2])
    command = [sys.executable, "-I", "-c", FENCES, source, str(place), kind]
    port = str(hub.server.server_port)
    done = subprocess.run([*command, port], capture_output=True, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines() if line)


def test_every_kind_of_number_comes_through(tmp_path: Path) -> None:
    kinds = [getattr(torch, name) for name in unpickle_worker.KINDS]
    given = {str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in kinds}
    given |= {"scalar": torch.tensor(2.5), "none": torch.zeros(0, 3)}
    torch.save(given, tmp_path / "last.ckpt")
    with unpickle.unpickle(tmp_path / "last.ckpt") as read:
        found = load_file(read.path)
    assert set(found) == set(given)
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape, name
        assert torch.equal(found[name].double(), tensor.double()), name


def rewrite(source: Path, target: Path, change: Callable[[dict, dict], None]) -> Path:
    """A copy of one of our files with another manifest or other tensors."""
    manifest, tensors = read_manifest(source), load_file(source)
    change(manifest, tensors)
    save_file(tensors, target, metadata={"osasis": json.dumps(manifest)})
    return target


def header(content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content


LYING = {
    "empty": b"",
    "length beyond the file": header(b"{}", 10**15),
    "offsets beyond the file": header(
        json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
    ),
    "size of another shape": header(
        json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]}}).encode()
    )
    + bytes(4),
    "not JSON": header(b"not json at all!"),
    "a pickle": pickle.dumps({"a": Command("true")}),
    "a manifest that is none": header(
        json.dumps({"__metadata__": {"osasis": "[" * 100_000}}).encode()
    ),
    "a manifest that is a list": header(json.dumps({"__metadata__": {"osasis": "[]"}}).encode()),
}


@pytest.mark.parametrize("kind", LYING)
@pytest.mark.parametrize("load", [load_base, load_style])
def test_safetensors_with_lying_headers(
    kind: str, load: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(LYING[kind])
    with pytest.raises(UserError, match="is not an osasis (base|style)|is not a style file"):
        load(path)


def set_value(*keys: str, value: Any) -> Callable[[dict, dict], None]:
    def change(manifest: dict, tensors: dict) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = value

    return change


def spoil(name: str, tensor: torch.Tensor) -> Callable[[dict, dict], None]:
    return lambda manifest, tensors: tensors.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (set_value("model", "unet", "channels", value=10**9), "channels is 1000000000"),
        (set_value("model", "unet", "num_res_blocks", value=10**9), "num_res_blocks is"),
        (set_value("model", "unet", "channel_mult", value=[1] * 99), "has 99 entries"),
        (set_value("model", "unet", "channels", value="../../etc/passwd"), "manifest is wrong"),
        (set_value("model", "unet", "channels", value=-32), "channels is -32"),
        (set_value("model", "unet", "code", value="import os"), "manifest is wrong"),
        (set_value("latent_net", value=None), "manifest is wrong"),
        (set_value("format", value="osasis-base-99"), "expected 'osasis-base-1'"),
        (spoil("z_mean", torch.full((16,), float("nan"))), "z_mean holds numbers that are not"),
        (spoil("z_mean", torch.zeros(17)), "z_mean or z_std is missing or misshapen"),
        (spoil("diffae.unet.conv_final.bias", torch.zeros(3)), "1 misshapen"),
        (spoil("diffae.left.over", torch.zeros(3)), "1 not known"),
    ],
)
def test_bases_that_lie(
    change: Callable[[dict, dict], None], line: str, tiny_base_path: Path, tmp_path: Path
) -> None:
    path = rewrite(tiny_base_path, tmp_path / "lie.safetensors", change)
    with pytest.raises(UserError) as caught:
        load_base(path)
    assert line in str(caught.value)


def test_folders_that_lead_out(tiny_base_path: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(tiny_base_path.read_bytes())
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UserError, match=r"a folder without model\.safetensors"):
        load_base(folder)
    (folder / "model.safetensors").symlink_to(outside)
    with pytest.raises(UserError, match="leads out of its folder"):
        load_base(folder)
    # the hub's cache links too, to the blobs of the same repository
    snapshot = tmp_path / "models--a--b" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    (blobs / "123").write_bytes(tiny_base_path.read_bytes())
    (snapshot / "model.safetensors").symlink_to("../../blobs/123")
    assert load_base(snapshot).name == "tiny"
    (snapshot / "config.json").write_text('{"name": "another story"}')
    with pytest.raises(UserError, match="does not describe"):
        load_base(snapshot)


def test_names_that_climb_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSASIS_DATA", str(tmp_path / "data"))
    own = tmp_path / "registry.toml"
    monkeypatch.setenv("OSASIS_REGISTRY", str(own))
    entry = '[artefacts.evil]\nkind = "file"\nlicence = ""\n'
    for line in (
        'files = { "../../evil" = {} }',
        'places = [{ url = "http://x", file = "../evil" }]',
        'places = [{ url = "http://x", file = "/etc/evil" }]',
    ):
        own.write_text(entry + line)
        artefacts._read.cache_clear()
        with pytest.raises(UserError, match="is not a plain file name"):
            artefacts.artefact("evil")
    own.write_text("not toml")
    artefacts._read.cache_clear()
    with pytest.raises(UserError, match="cannot be read"):
        artefacts.artefacts()
    monkeypatch.delenv("OSASIS_REGISTRY")
    (tmp_path / "secret").write_text("x")
    lock = tmp_path / "data" / "lock.json"
    lock.parent.mkdir()
    climbing = {"folder": "models", "files": {"../../secret": "0"}}
    lock.write_text(json.dumps({"pins": {}, "installed": {"sface": climbing}}))
    with pytest.raises(OsasisError, match="leads out of"):
        artefacts.path("sface")
    lock.write_text("{")
    with pytest.raises(OsasisError, match="lock file"):
        artefacts.path("sface")
