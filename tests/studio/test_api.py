"""The studio over HTTP, as scripts use it."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from osasis.base import Base
from osasis.studio.service import Service
from osasis.stylize.preview import preview_style
from osasis.stylize.stylizer import Stylizer

from ..conftest import picture
from .conftest import PRESET, Client, png, running


def test_learn_then_stylize_gives_what_the_library_gives(
    client: Client, tiny_base: Base, service: Service
) -> None:
    job = client.call("learn", client.upload(png(1), "painting.png"), "My style", 3)
    learned = client.wait(job["job"])
    assert learned["state"] == "done", learned
    file = client.http.get(learned["results"][0])
    assert "My%20style.osasis.safetensors" in file.headers["content-disposition"]

    photo = client.upload(png(5), "me.png")
    job = client.call("stylize", photo, job["style"], {"strength": 0.5, "seed": 1})
    done = client.wait(job["job"])
    assert done["state"] == "done" and not done["failures"]
    got = Image.open(io.BytesIO(client.http.get(done["results"][0]).content))

    path = service.store.uploads / "test.safetensors"
    path.write_bytes(file.content)
    from osasis.formats.style_file import load_style

    style = load_style(path)
    path.unlink()
    assert style.manifest.seed == 3
    expected = Stylizer(tiny_base, style, strength=0.5)(picture(5, 96))
    assert got.tobytes() == expected.tobytes()
    archive = client.http.get("/results.zip")
    assert archive.content[:2] == b"PK" and b"me - My style.png" in archive.content


@pytest.mark.slow
def test_a_running_style_is_cancelled_and_goes_on(tiny_base: Base, tmp_path: Path) -> None:
    preset = replace(PRESET, iterations=16)
    with running(tiny_base, tmp_path, preset=preset) as (address, service):
        client = Client(address)
        job = client.call("learn", client.upload(png(2), "p.png"), "", 0)
        while client.call("status", job["job"])["phase"][:1] != "3":
            time.sleep(0.1)
        client.call("cancel", job["job"])
        assert client.wait(job["job"])["state"] == "cancelled"
        token = client.http.cookies["osasis_visitor"]
        visitor = service.store.visitor(token)
        style = visitor.item(job["style"])
        assert style.data["state"] == "new" and 0 < style.data["updates"] < style.data["total"]
        resumed = service.learn(visitor, style.id)
        first = client.wait(resumed.id, 300)  # on a busy machine
        assert first["state"] == "done" and first["total"] == 1
        assert visitor.item(style.id).data["updates"] == style.data["total"]


def test_what_is_wrong_is_said(client: Client) -> None:
    photo = client.upload(png(1))
    for settings, said in (
        ({"strength": 9}, "strength must lie between 0 and 1.5"),
        ({"colour": 1}, "no setting 'colour'"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"strength": "1"}, "strength must be a number"),
        ({"style_levels": "0;1"}, "levels must be"),
        ({"attributes": {"smiling": 99}}, "smiling must lie between"),
        ({"attributes": {"tall": 1}}, "no attribute 'tall'"),
    ):
        assert said in client.call("stylize", photo, "", settings)["error"], settings
    assert "not an image" in client.call("stylize", client.upload(b"no", "a.png"), "", {})["error"]
    assert "no style of that id" in client.call("stylize", photo, "0" * 32, {})["error"]
    assert "no job of that id" in client.call("status", "0" * 32)["error"]
    wrong = client.wait(client.call("stylize", photo, "", {})["job"])
    assert wrong["state"] == "failed" and "choose a style" in wrong["error"]


def test_attributes_alone_and_a_preview_as_style(
    client: Client, tiny_base: Base, service: Service
) -> None:
    photo = client.upload(png(5))
    job = client.call("stylize", photo, "", {"attributes": {"smiling": 2.0}})
    assert client.wait(job["job"])["state"] == "done"
    visitor = service.store.visitor(client.http.cookies["osasis_visitor"])
    unlearned = service.intake.add_style_picture(visitor, picture(1, 96), "unlearned")
    job = client.call("stylize", photo, unlearned.id, {})
    done = client.wait(job["job"])
    got = Image.open(io.BytesIO(client.http.get(done["results"][0]).content))
    style = preview_style(tiny_base, picture(1, 96))
    assert got.tobytes() == Stylizer(tiny_base, style)(picture(5, 96)).tobytes()


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("{", 400, "the request is no JSON: Expecting"),
        ("\xff", 400, "the request is no JSON"),
        ("[" * 100_000, 400, "too many brackets"),
        ('{"data": [NaN]}', 400, "the request is no JSON: NaN"),
        ("x" * 1_500_000, 413, "at most 1 MB"),
        ("[]", 400, "with photo, style, settings in the list"),
        ('{"data": 5}', 400, "with photo, style, settings in the list"),
        ('{"data": []}', 400, "with photo, style, settings in the list"),
        ('{"data": ["me.png", "", {}]}', 400, "photo must be an uploaded file, got 'me.png'"),
        ('{"data": [{}, "", {}]}', 400, 'photo must be an uploaded file: {"path": PATH}'),
        ('{"data": [{"path": "/etc/passwd"}, "", {}]}', 403, "only uploaded files"),
    ],
)
def test_a_body_that_cannot_be_taken(client: Client, body: str, status: int, said: str) -> None:
    answer = client.http.post("/gradio_api/call/stylize", content=body.encode("latin-1"))
    assert answer.status_code == status and said in answer.text and "\n" not in answer.text


def test_calls_of_another_shape(client: Client) -> None:
    photo = client.upload(png(5))
    for endpoint, data, said in (
        ("stylize", (photo, "", 5), "settings must be an object, got 5"),
        ("stylize", (photo, 5, {}), "style must be a text, got 5"),
        ("learn", (photo, "x", "a"), "seed must be a number, got 'a'"),
        ("learn", (photo, "x", True), "seed must be a number, got True"),
        ("learn", (photo, "x", 1e12), "the seed is a whole number"),
        ("status", (), "with job in the list"),
        ("paint", (photo,), "there is no endpoint 'paint'; there are stylize, learn"),
    ):
        assert said in client.call(endpoint, *data)["error"]


def test_password(tiny_base: Base, tmp_path: Path) -> None:
    with running(tiny_base, tmp_path, password="gehe\u00edm") as (address, _):
        outside = Client(address)
        for path in ("/", "/config", "/gradio_api/info", "/examples/astronaut", "/files/a/b"):
            assert outside.http.get(path).status_code == 401
        wrong = Client(address, auth=("me", "guess"))
        assert wrong.http.get("/config").status_code == 401
        inside = Client(address, auth=("anybody", "gehe\u00edm".encode()))
        assert inside.http.get("/config").status_code == 200
        assert "path" in inside.upload(png(1))


@pytest.mark.slow
def test_gradios_own_client(address: str, tmp_path: Path) -> None:
    import secrets

    from gradio_client import Client as GradioClient
    from gradio_client import handle_file

    photo = tmp_path / "me.png"
    photo.write_bytes(png(5))
    me = {"X-Osasis-Visitor": secrets.token_urlsafe(32)}
    client = GradioClient(address, headers=me, verbose=False, analytics_enabled=False)
    attributes = {"attributes": {"smiling": 1}}
    job = client.predict(handle_file(str(photo)), "", attributes, api_name="/stylize")
    while job["state"] in ("queued", "running"):
        time.sleep(0.3)
        job = client.predict(job["job"], api_name="/status")
    assert job["state"] == "done" and len(job["results"]) == 1
