"""`osasis models fetch` against a stand-in of the hub, with the hub's real library."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from osasis import Base, Stylizer, UserError, learn_style, load_base
from osasis.evaluate.named import ResNetStatistics
from osasis.evaluate.peers.adain import AdainNetworks
from osasis.formats.borrowed import borrow
from osasis.hub.fetch import verify

from ..conftest import picture
from ..standin import QUOTA_PAGE, StandIn
from ..unit.test_borrowed import make as tiny_autoencoder
from ..unit.test_evaluate import resnet
from .conftest import BLOB, COMMIT, NEWER, QUICK, User

DIGEST = hashlib.sha256(BLOB).hexdigest()


def test_a_file_of_the_hub_lies_in_its_cache_and_is_not_fetched_twice(
    user: User, hub: StandIn
) -> None:
    hub.repositories["me/blob"] = {COMMIT: {"deep/blob.onnx": BLOB}}
    missing = user.run("models", "path", "blob")
    assert missing.returncode == 2
    assert "some bytes" in missing.stderr and "osasis models fetch blob" in missing.stderr
    done = user.run("models", "fetch", "blob")
    assert done.returncode == 0, done.stderr
    path = Path(user.run("models", "path", "blob").stdout.strip())
    assert path.read_bytes() == BLOB
    assert path.is_relative_to(user.home / "hf") and COMMIT in path.parts
    pin = json.loads((user.data / "lock.json").read_text())["pins"]["blob"]["blob.onnx"]
    assert pin == {"sha256": DIGEST, "bytes": len(BLOB), "from": "me/blob", "revision": COMMIT}
    seen = len(hub.served)
    assert user.run("models", "fetch", "blob").returncode == 0
    assert len(hub.served) == seen
    # the repository moves on; what was fetched first is held to
    hub.repositories["me/blob"][NEWER] = {"deep/blob.onnx": b"newer"}
    assert user.run("models", "remove", "blob").returncode == 0
    assert not path.exists()
    assert user.run("models", "fetch", "blob").returncode == 0
    assert path.read_bytes() == BLOB
    assert user.run("models", "verify").returncode == 0
    path.resolve().write_bytes(b"rotten")
    broken = user.run("models", "verify", "blob")
    assert broken.returncode == 1
    assert "has changed" in broken.stdout


def test_a_cut_connection_is_continued(user: User, hub: StandIn) -> None:
    large = BLOB * 24  # the hub's library writes pieces of 10 MB
    hub.repositories["me/blob"] = {COMMIT: {"deep/blob.onnx": large}}
    hub.files["plain.onnx"] = large
    for name, suffix in (("blob", "blob.onnx"), ("plain", "plain.onnx")):
        hub.served.clear()
        hub.cut[:] = [15_000_000]
        done = user.run("models", "fetch", name)
        assert done.returncode == 0, done.stderr
        starts = [first for kind, path, first in hub.served if kind == "GET" and suffix in path]
        assert starts[0] == 0 and starts[1] >= 10_000_000
        found = Path(user.run("models", "path", name).stdout.strip())
        assert found.read_bytes() == large


def test_a_kill_in_the_middle_leaves_nothing_that_counts(user: User, hub: StandIn) -> None:
    hub.files["plain.onnx"] = BLOB
    hub.stall = threading.Event()
    process = subprocess.Popen(
        user.command("models", "fetch", "plain"), cwd=user.home, env=user.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert hub.halfway.wait(60)
    partial = user.data / "downloads" / "plain" / "plain.onnx.partial"
    for _ in range(200):  # what was sent is on its way to the disk
        if partial.exists() and partial.stat().st_size:
            break
        threading.Event().wait(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    hub.stall.set()
    hub.stall = None
    assert user.run("models", "path", "plain").returncode == 2
    kept = partial.stat().st_size
    assert 0 < kept < len(BLOB)
    hub.served.clear()
    done = user.run("models", "fetch", "plain")
    assert done.returncode == 0, done.stderr
    assert hub.served[0][2] == kept  # continued, not begun anew
    assert Path(user.run("models", "path", "plain").stdout.strip()).read_bytes() == BLOB
    assert not (user.data / "downloads").exists() or not list((user.data / "downloads").iterdir())


def test_a_changed_file_is_refused_until_it_is_wanted(user: User, hub: StandIn) -> None:
    hub.files["plain.onnx"] = BLOB
    assert user.run("models", "fetch", "plain").returncode == 0
    assert user.run("models", "remove", "plain").returncode == 0
    hub.files["plain.onnx"] = BLOB[:-1] + b"!"
    changed = user.run("models", "fetch", "plain")
    assert changed.returncode == 1
    assert "is not the file that the first fetch knows" in changed.stderr
    assert DIGEST[:16] in changed.stderr and "--forget" in changed.stderr
    assert not list(user.data.rglob("*.onnx"))
    assert user.run("models", "remove", "plain", "--forget").returncode == 0
    assert user.run("models", "fetch", "plain").returncode == 0


def test_a_part_of_another_file_is_not_continued(user: User, hub: StandIn) -> None:
    hub.files["plain.onnx"] = BLOB
    folder = user.data / "downloads" / "plain"
    folder.mkdir(parents=True)
    (folder / "plain.onnx.partial").write_bytes(b"of an older file")
    (folder / "plain.onnx.partial.etag").write_text('"older"')
    assert user.run("models", "fetch", "plain").returncode == 0
    assert Path(user.run("models", "path", "plain").stdout.strip()).read_bytes() == BLOB


def test_a_quota_page_is_named(user: User, hub: StandIn) -> None:
    hub.files["plain.onnx"] = QUOTA_PAGE
    page = user.run("models", "fetch", "plain")
    assert page.returncode == 1
    assert "web page (Google Drive - Quota exceeded), not a model" in page.stderr
    assert "quota is used up" in page.stderr and "--from" in page.stderr
    assert not list(user.data.rglob("plain.onnx*"))
    (user.home / "saved.onnx").write_bytes(QUOTA_PAGE)
    given = user.run("models", "fetch", "plain", "--from", "saved.onnx")
    assert given.returncode == 1 and "web page" in given.stderr
    assert (user.home / "saved.onnx").exists()


def test_offline(user: User, hub: StandIn) -> None:
    hub.repositories["me/blob"] = {COMMIT: {"deep/blob.onnx": BLOB}}
    hub.files["plain.onnx"] = BLOB
    for name in ("blob", "plain"):
        off = user.run("models", "fetch", name, HF_HUB_OFFLINE="1")
        assert off.returncode == 2, off.stderr
        assert "offline mode is on" in off.stderr
    assert hub.served == []
    assert user.run("models", "fetch", "blob").returncode == 0
    seen = len(hub.served)
    assert user.run("models", "fetch", "blob", HF_HUB_OFFLINE="1").returncode == 0
    assert len(hub.served) == seen


def test_from_a_file_a_folder_and_an_address(user: User, hub: StandIn) -> None:
    folder = user.home / "mine"
    folder.mkdir()
    (folder / "plain.onnx").write_bytes(BLOB)
    (folder / "other.onnx").write_bytes(BLOB)
    hub.files["moved/elsewhere.onnx"] = BLOB
    for given in (folder, folder / "other.onnx", f"{hub.address}/files/moved/elsewhere.onnx"):
        done = user.run("models", "fetch", "plain", "--from", given)
        assert done.returncode == 0, done.stderr
        found = Path(user.run("models", "path", "plain").stdout.strip())
        assert found.read_bytes() == BLOB and found.is_relative_to(user.data)
        assert user.run("models", "remove", "plain").returncode == 0
    gone = user.run("models", "fetch", "plain", "--from", user.home / "none.onnx")
    assert gone.returncode == 2 and "does not exist" in gone.stderr
    (folder / "plain.onnx").unlink()
    (folder / "plain.onnx").symlink_to("/etc/hostname")
    out = user.run("models", "fetch", "plain", "--from", folder)
    assert out.returncode == 2 and "leads out of its folder" in out.stderr


def test_a_model_of_several_files(user: User, hub: StandIn, tmp_path: Path) -> None:
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3)}
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    save_file(tensors, tmp_path / "plain.safetensors")
    config = {"config.json": b"{}", "evil.py": b"import os"}
    hub.repositories["me/pair"] = {
        COMMIT: config | {"model.safetensors": tmp_path / "plain.safetensors"}
    }
    for commit, content in ((COMMIT, ""), (NEWER, "pytorch_model.bin")):
        if content:  # another user, for whom the repository has a pickle only
            hub.repositories["me/pair"][commit] = config | {content: tmp_path / content}
            shutil.rmtree(user.data)
        done = user.run("models", "fetch", "pair")
        assert done.returncode == 0, done.stderr
        folder = Path(user.run("models", "path", "pair").stdout.strip())
        assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
        assert torch.equal(load_file(folder / "model.safetensors")["a.weight"], tensors["a.weight"])
    assert not any("evil" in path for _, path, _ in hub.served)


def test_a_published_base_is_loaded_and_nothing_else(
    user: User, hub: StandIn, tiny_base: Base, tmp_path: Path
) -> None:
    tiny_base.save_pretrained(tmp_path / "published")
    files = {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()}
    hub.repositories["me/base"] = {COMMIT: files | {"modeling.py": b"raise SystemExit(7)"}}
    program = "import osasis; print(osasis.Base.from_pretrained('me/base').hash)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=user.environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout.strip() == tiny_base.hash, done.stderr
    assert not any("modeling" in path for _, path, _ in hub.served)


def test_an_autoencoder_of_diffusers_is_downloaded_where_that_is_asked_for(
    user: User, hub: StandIn, tmp_path: Path
) -> None:
    folder = tiny_autoencoder("AutoencoderTiny", tmp_path / "vae")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    pickled = {"diffusion_pytorch_model.bin": b"pickled"}
    hub.repositories["me/vae"] = {COMMIT: files | pickled}
    program = """
from osasis.errors import OsasisError
from osasis.formats.borrowed import borrow
for repository, download in (("me/vae", 0), ("me/vae", 1), ("me/vae", 0), ("me/no", 1)):
    try:
        print(borrow(repository, download=bool(download)).config.hash)
    except OsasisError as error:
        print(error, error.hint)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=user.environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    before, first, again, none = done.stdout.splitlines()
    assert "not in the hub's cache" in before and "hf download me/vae" in before
    assert first == again == borrow(str(folder)).config.hash
    assert "does not have what is expected" in none
    assert not any(path.endswith(".bin") for _, path, _ in hub.served)


def test_a_hub_that_is_not_there_or_lacks_the_file(user: User, hub: StandIn) -> None:
    nothing = user.run("models", "fetch", "blob")
    assert nothing.returncode == 1 and "does not have what is expected" in nothing.stderr
    hub.repositories["me/blob"] = {COMMIT: {"moved.onnx": BLOB}}
    moved = user.run("models", "fetch", "blob")
    assert moved.returncode == 1 and "blob could not be downloaded" in moved.stderr
    hub.server.shutdown()
    hub.server.server_close()
    off = user.run("models", "fetch", "blob")
    assert off.returncode == 1 and "cannot be downloaded" in off.stderr
    assert "Traceback" not in off.stderr


def test_the_whole_way_of_a_base(
    user: User, hub: StandIn, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetch, convert, load, learn, stylize: the same code as for the base of 256 pixels."""
    hub.repositories["me/diffae"] = {COMMIT: {"latent/last.ckpt": checkpoints / "last.ckpt"}}
    hub.files["ffhq_p2.pt"] = checkpoints / "ffhq_p2.pt"
    for name in ("OSASIS_DATA", "OSASIS_REGISTRY"):
        monkeypatch.setenv(name, user.environment[name])
    with pytest.raises(UserError, match="small is not here") as caught:
        load_base("small")
    assert caught.value.hint == "osasis models fetch small"
    done = user.run("models", "fetch", "small")
    assert done.returncode == 0, done.stderr
    for part in ("small-latent", "small-p2", "disk", "free there"):
        assert part in done.stdout
    folder = Path(done.stdout.split("small is in ")[1].splitlines()[0]).parent
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors", "config.json", "README.md",
    }  # fmt: skip
    assert not (user.data / "downloads" / "small-p2").exists()
    # the same checkpoints give everybody the same base, which styles are bound to
    assert str(user.home) not in (folder / "config.json").read_text()
    assert "a small base" in (folder / "README.md").read_text()
    base = load_base("small")
    style = learn_style(picture(1), base=base, preset=QUICK)
    assert style.manifest.updates == 2
    result = Stylizer(base, style)(picture(2))
    assert result.size == (32, 32)
    assert verify("small") == []


def test_the_network_that_names_styles_is_fetched_and_used(user: User, hub: StandIn) -> None:
    """The registry's own entry; the stand-in has a small network in the published layout."""
    folder = resnet(user.home / "published")
    files: dict[str, bytes | Path] = {p.name: p.read_bytes() for p in folder.iterdir()}
    hub.repositories["microsoft/resnet-18"] = {COMMIT: files | {"pytorch_model.bin": b"no"}}
    done = user.run("models", "fetch", "resnet18")
    assert done.returncode == 0, done.stderr
    found = Path(user.run("models", "path", "resnet18").stdout.strip())
    cpu, x = torch.device("cpu"), torch.rand(1, 3, 32, 32)
    assert torch.equal(ResNetStatistics(found, cpu)(x), ResNetStatistics(folder, cpu)(x))
    assert not any("pytorch_model" in path for _, path, _ in hub.served)


def test_adains_networks_are_fetched_and_joined(user: User, hub: StandIn, tmp_path: Path) -> None:
    """Published as two pickles of before torch 1.6, layers named by number, the encoder longer."""
    torch.manual_seed(0)
    ours = AdainNetworks().state_dict()
    for part, extra in (("encoder", {"32.weight": torch.zeros(1)}), ("decoder", {})):
        named = {k.removeprefix(f"{part}."): v for k, v in ours.items() if k.startswith(part)}
        torch.save(named | extra, tmp_path / f"{part}.pth", _use_new_zipfile_serialization=False)
        hub.files[f"{part}.pth"] = tmp_path / f"{part}.pth"
    with Path(user.environment["OSASIS_REGISTRY"]).open("a") as file:
        for part in ("encoder", "decoder"):
            file.write(f"""
[artefacts.adain-{part}]
kind = "checkpoint"
licence = "none"
files = {{ "{part}.pth" = {{}} }}
places = [{{ url = "{hub.address}/files/{part}.pth", file = "{part}.pth" }}]
""")
    done = user.run("models", "fetch", "adain")
    assert done.returncode == 0, done.stderr
    path = Path(user.run("models", "path", "adain").stdout.strip())
    found = AdainNetworks.load(path, torch.device("cpu")).state_dict()
    for name, tensor in ours.items():
        torch.testing.assert_close(found[name], tensor.half().float())
    hub.files["encoder.pth"] = tmp_path / "decoder.pth"
    assert user.run("models", "remove", "adain", "--forget").returncode == 0
    wrong = user.run("models", "fetch", "adain")
    assert wrong.returncode == 2 and "are not AdaIN's networks" in wrong.stderr
