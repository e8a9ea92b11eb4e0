"""What a visitor with bad intentions gets: nothing."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from osasis.base import Base
from osasis.studio.config import Limits
from osasis.studio.service import Service

from ..conftest import picture
from .conftest import Client, png, running

FILE = {"_type": "gradio.FileData"}


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1_000_000)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.fixture
def secret(service: Service) -> Path:
    """A file beside the folder of uploads."""
    path = service.config.data / "secret.png"
    path.write_bytes(png(99))
    return path


def test_paths_of_a_visitor_are_never_opened(
    client: Client, secret: Path, service: Service
) -> None:
    uploaded = client.upload(png(1))["path"]
    paths = [str(secret), "/etc/passwd", "secret.png", f"{Path(uploaded).parent}/../../secret.png"]
    for path in [*paths, f"file://{secret}", "http://127.0.0.1:1/x.png", "\0", "", "~/.bashrc"]:
        for given in ({"path": path, "meta": FILE}, {"path": path, "url": path, "meta": FILE}):
            for endpoint, rest in (("stylize", ["", {}]), ("learn", ["x", 0])):
                answer = client.call(endpoint, given, *rest)
                assert "error" in answer and "job" not in answer, (path, answer)
                assert "root:" not in answer["error"]
    # in a place where no file belongs, too
    photo = {"path": uploaded, "meta": FILE}
    for settings in ({"x": {"path": str(secret), "meta": FILE}}, {"x": [{"path": 5}]}):
        assert "error" in client.call("stylize", photo, "", settings)
    copies = [p for p in service.store.uploads.rglob("*") if p.is_file()]
    assert copies and not [p for p in copies if p.read_bytes() == secret.read_bytes()]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file={secret}",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/{secret}",
        "/file={secret}",
        "/gradio_api/proxy=http://127.0.0.1:1/",
        "/gradio_api/stream/a/b/c/playlist.m3u8",
        "/gradio_api/component_server",
        "/gradio_api/deep_link?session_hash=a",
        "/monitoring",
        "/monitoring/summary",
        "/files/../secret.png",
        "/files/%2e%2e/%2e%2e/secret.png",
        "/files/..%2f..%2fsecret.png/view.webp",
        "/examples/..%2f..%2f..%2fpyproject.toml",
        "/examples/../../secret.png",
        "/static/../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2f..%2fetc%2fpasswd",
        "/svelte/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/openapi.json",
        "/docs",
    ],
)
def test_nothing_outside_is_served(address: str, secret: Path, path: str) -> None:
    import http.client

    host = address.removeprefix("http://")
    connection = http.client.HTTPConnection(host)  # sends the path as it is
    connection.request("GET", path.format(secret=secret))
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status >= 400, path
    assert b"root:" not in body and secret.read_bytes() not in body


def test_anothers_things_are_out_of_reach(address: str) -> None:
    owner, thief = Client(address), Client(address)
    owner_photo = owner.upload(png(5))
    job = owner.call("stylize", owner_photo, "", {"attributes": {"smiling": 1}})
    url = owner.wait(job["job"])["results"][0]
    assert owner.http.get(url).status_code == 200
    key = url.split("/")[1]
    for name in ("picture.png", "view.webp", "before.webp", "item.json"):
        assert thief.http.get(f"/files/{key}/{name}").status_code == 404
    assert owner.http.get(f"/files/{key}/item.json").status_code == 404
    assert thief.http.get("/results.zip").status_code == 404
    for endpoint in ("status", "cancel"):
        assert "no job of that id" in thief.call(endpoint, job["job"])["error"]
    learned = owner.call("learn", owner.upload(png(1)), "mine", 0)
    refused = thief.call("stylize", thief.upload(png(6)), learned["style"], {})
    assert "no style of that id" in refused["error"]
    # uploads are not served to anybody, their owner included
    served = owner.http.get(f"/gradio_api/file={owner_photo['path']}")
    assert served.status_code == 404
    owner.wait(learned["job"])
    for token in ("", "x" * 32, "../" * 12, "a" * 5000):
        guess = Client(address, headers={"x-osasis-visitor": token})
        assert guess.http.get(url).status_code in (400, 404, 431)


def test_huge_and_hostile_pictures(client: Client, service: Service) -> None:
    noise = zlib.compress(bytes(range(256)) * 10)
    uploads = {
        "bomb.png": (bomb(60_000, 60_000), "pixels"),
        "wide.png": (bomb(1_200, 1_200), "pixels"),
        "cut.png": (png(1)[:200], "damaged"),
        "text.png": (b"<?php system($_GET[0]); ?>", "not an image"),
        "vector.svg": (b"<svg onload='alert(1)' xmlns='http://www.w3.org/2000/svg'/>", "not an im"),
        "empty.png": (b"", "empty"),
        "tiny.png": (png(1, 8), "too small"),
        "ghost.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n" + noise, "not an image"),
        "../../../x<img src=x onerror=alert(1)>.png": (b"no", "not an image"),
    }
    for name, (data, said) in uploads.items():
        answer = client.call("stylize", client.upload(data, name), "", {})
        assert said in answer.get("error", ""), (name, answer)
        assert str(service.config.data) not in answer["error"] and "<" not in answer["error"]
    big = client.http.post("/gradio_api/upload", files={"files": ("b.png", b"0" * 70_000_000)})
    assert big.status_code == 413

    def endless() -> Any:
        for _ in range(80):
            yield b"0" * 1_000_000

    try:
        status = client.http.post(
            "/gradio_api/upload",
            content=endless(),
            headers={"content-type": "multipart/form-data; boundary=x"},
        ).status_code
    except Exception as error:  # noqa: BLE001 - the server may hang up in the middle
        assert "httpx" in type(error).__module__
    else:
        assert status >= 400
    assert client.http.get("/config").status_code == 200  # it is still there


def style_file(manifest: dict[str, Any], tensors: bytes = b"\0" * 64) -> bytes:
    header = {
        "__metadata__": {"osasis": json.dumps(manifest)},
        "z_style": {"dtype": "F32", "shape": [1, 16], "data_offsets": [0, 64]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def test_hostile_style_files(service: Service, tiny_base: Base, tmp_path: Path) -> None:
    import base64
    import dataclasses

    from osasis.errors import UserError
    from osasis.formats.style_file import FORMAT
    from osasis.stylize.preview import preview_style

    visitor = service.store.visitor("a" * 40)
    good = preview_style(tiny_base, picture(1), name="<b>good</b>")
    upload = service.store.uploads / "up.safetensors"
    good.save(upload)
    item = service.intake.style_file(visitor, upload)
    assert item.name == "b good b"
    buffer = io.BytesIO()
    Image.new("RGB", (4000, 4000)).save(buffer, "WEBP", quality=0, method=0)
    huge = base64.b64encode(buffer.getvalue()).decode()
    small = io.BytesIO()
    picture(1).save(small, "WEBP")
    plain = dataclasses.asdict(good.manifest) | {
        "format": FORMAT,
        "thumbnail": base64.b64encode(small.getvalue()).decode(),
    }

    def with_config(**changes: Any) -> dict[str, Any]:
        return plain | {"config": plain["config"] | changes}

    spn = plain["config"]["spn"]
    route = plain["config"]["stylize_route"]
    hostile: list[Any] = [
        b"",
        b"PK\x03\x04" + b"\0" * 100,
        struct.pack("<Q", 2**40) + b"{}",
        b"\x80\x04\x95cposix\nsystem\n",
        style_file({}),
        style_file(plain | {"thumbnail": huge}),
        style_file(plain | {"thumbnail": 5}),
        style_file(plain | {"base_hash": "another"}),
        style_file(plain | {"lambda_spn": float("inf")}),
        style_file(plain | {"style_levels": ["a"]}),
        style_file(plain | {"config": {"preset": "x"}}),
        style_file(with_config(spn=spn | {"channels": 10**9})),
        style_file(with_config(spn=spn | {"channels": "8"})),
        style_file(with_config(stylize_route=route | {"decode_steps": 10**9})),
        style_file(with_config(stylize_route=route | {"t0_ratio": "x"})),
        style_file(with_config(stylize_route=5)),
        style_file(plain),  # no SPN in it
    ]
    for number, data in enumerate(hostile):
        upload.write_bytes(data)
        with pytest.raises(UserError) as refused:
            service.intake.style_file(visitor, upload)
        assert str(service.config.data) not in str(refused.value), number
    upload.unlink()


@pytest.mark.slow
def test_limits_of_a_visitor(tiny_base: Base, tmp_path: Path) -> None:
    limits = Limits(waiting=2, visitor_bytes=60_000, all_bytes=10_000_000)
    with running(tiny_base, tmp_path, limits=limits) as (address, service):
        client = Client(address)
        photo, answers = client.upload(png(1)), []
        for _ in range(12):
            answers.append(client.call("learn", photo, "x", 0))
        errors = {answer["error"] for answer in answers if "error" in answer}
        assert any("waiting already" in text for text in errors)
        assert any("which is the limit" in text for text in errors)
        job = Client(address).call("status", answers[0]["job"])
        assert "error" in job
        for key in [a["job"] for a in answers if "job" in a]:
            client.call("cancel", key)


def test_another_site_does_not_get_in(address: str, client: Client) -> None:
    assert client.http.get("/config", headers={"host": "evil.example"}).status_code == 400
    answer = client.http.get("/")
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    fresh = Client(address).http
    cookie = fresh.get("/", headers={"cookie": ""}).headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
