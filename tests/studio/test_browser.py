"""The page in a real browser."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from osasis.base import Base
from osasis.config.catalogue import assets

from .conftest import PRESET, png, running

WITHIN = 30_000  # milliseconds; a busy machine is slow
PHONE = {"width": 390, "height": 844}


@contextmanager
def opened(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """The page, as a visitor of its own sees it; nothing may be fetched from elsewhere."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
    page, outside = context.new_page(), []
    page.set_default_timeout(WITHIN)
    page.on("request", lambda r: outside.append(r.url) if is_outside(r.url, address) else None)
    page.goto(address)
    page.wait_for_selector(".compare img.after")
    yield page
    context.close()
    assert outside == []


def is_outside(url: str, address: str) -> bool:
    return url.startswith("http") and not url.startswith(address)


def drop(page: Any, area: str, *files: tuple[str, bytes]) -> None:
    given = [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in files]
    page.locator(f"#{area} input[type=file]").set_input_files(given)


def shown(page: Any, selector: str) -> Any:
    return page.locator(selector).locator("visible=true").first


def tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def test_first_open_shows_results(browser: Any, address: str) -> None:
    seconds = []
    for _ in range(3):  # the first one also starts the browser's processes
        context = browser.new_context()
        page = context.new_page()
        start = time.monotonic()
        page.goto(address)
        page.wait_for_selector(".compare img.after")
        page.wait_for_function(
            "[...document.querySelectorAll('.compare img')].every(i => i.naturalWidth > 0)"
        )
        seconds.append(time.monotonic() - start)
        tab(page, "Explore")
        sheet = shown(page, ".sheet img")
        assert sheet.evaluate("async i => { await i.decode(); return i.naturalWidth }") > 500
        context.close()
    assert min(seconds) < 5


def test_from_a_dropped_painting_to_a_downloaded_result(
    browser: Any, address: str, tmp_path: Path
) -> None:
    with opened(browser, address) as page:
        tab(page, "Styles")
        drop(page, "style-upload", ("My painting.png", png(1)))
        shown(page, ".detail figure:nth-child(2) img").wait_for()
        page.locator("#learn").click()
        page.get_by_text("Download the style file").wait_for()
        page.get_by_label("Name").fill("Renamed")
        page.get_by_role("button", name="Rename").click()
        page.locator(".card .name", has_text="Renamed").locator("visible=true").wait_for()
        tab(page, "Photos")
        drop(page, "photo-upload", ("me.png", png(5)), ("you.png", png(6)))
        page.locator(".strip .photo").nth(1).wait_for()
        page.locator("#redraw").click()
        page.locator(".thumbs .thumb").nth(1).wait_for()
        with page.expect_download() as download:
            page.locator(".compare .download").click()
        result = Image.open(download.value.path())
        assert result.size == (32, 32) and result.format == "PNG"
        assert "Renamed" in download.value.suggested_filename
        with page.expect_download() as download:
            page.get_by_text("Download all 2 results (zip)").click()
        names = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())).namelist()
        assert [name[:2] for name in names] == ["01", "02"]
        slider = page.get_by_label("Before and after")
        slider.focus()
        page.keyboard.press("ArrowRight")
        assert slider.input_value() == "51"
        page.reload()
        page.locator(".thumbs .thumb").nth(1).wait_for()


def test_a_bad_file_is_explained_and_the_page_goes_on(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        drop(page, "photo-upload", ("<b>x.png", b"no picture"), ("good.png", png(5)))
        page.get_by_text("is not an image that can be read").wait_for()
        page.locator(".strip .photo", has_text="good").wait_for()


@pytest.mark.slow
def test_faces_are_marked_and_chosen(browser: Any, address: str) -> None:
    photo = (assets() / "photos" / "astronaut.png").read_bytes()
    with opened(browser, address) as page:
        drop(page, "photo-upload", ("collins.png", photo))
        face = page.get_by_label("Face 1 of collins")
        assert face.get_attribute("aria-pressed") == "true"
        face.focus()
        page.keyboard.press("Enter")
        page.locator('.face[aria-pressed="false"]').wait_for()
        page.get_by_label("Remove collins").click()
        page.get_by_text("Faces that are found are marked here").wait_for()


def test_cancel_survives_a_reload_and_goes_on(
    browser: Any, tiny_base: Base, tmp_path: Path
) -> None:
    from dataclasses import replace

    preset = replace(PRESET, iterations=60)
    with (
        running(tiny_base, tmp_path, preset=preset) as (address, _),
        opened(browser, address) as page,
    ):
        tab(page, "Styles")
        drop(page, "style-upload", ("slow.png", png(1)))
        shown(page, ".detail figure:nth-child(2) img").wait_for()
        page.locator("#learn").click()
        page.get_by_text("3 of 3: learning").locator("visible=true").wait_for()
        page.reload()
        tab(page, "Styles")
        shown(page, ".cancel").click()
        page.locator("#learn", has_text="Go on").wait_for()
        page.get_by_role("button", name="Delete").locator("visible=true").click()
        page.get_by_text("Drop a picture, or choose one").wait_for()


def test_two_visitors_see_only_their_own(browser: Any, address: str) -> None:
    with opened(browser, address) as one, opened(browser, address) as other:
        drop(one, "photo-upload", ("mine.png", png(5)))
        drop(other, "photo-upload", ("theirs.png", png(6)))
        one.locator(".strip .photo", has_text="mine").wait_for()
        other.locator(".strip .photo", has_text="theirs").wait_for()
        assert one.locator(".photo").count() == other.locator(".photo").count() == 1
        url = one.locator(".photo img").evaluate("i => i.src")
        assert other.request.get(url).status == 404
        assert one.request.get(url).status == 200


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_a_phone(browser: Any, address: str, scheme: str) -> None:
    with opened(browser, address, viewport=PHONE, has_touch=True, color_scheme=scheme) as page:
        names = ("photo-upload", "redraw", "photos-results", "photos-controls")
        places = [page.locator(f"#{name}").bounding_box() for name in names]
        ends = [place["y"] + place["height"] for place in places]
        # one below the other, results before the form's end, all as wide as the page allows
        assert all(end <= after["y"] for end, after in zip(ends, places[1:], strict=False))
        assert min(place["width"] for place in places) > 300
        for name in ("Photos", "Styles", "Explore"):
            tab(page, name)
            wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, name
        unnamed = page.evaluate(
            """[...document.querySelectorAll('button, input, select, textarea, img')]
            .filter(e => e.offsetParent && !(e.getAttribute('aria-label') ?? e.getAttribute('alt')
              ?? e.title ?? '').trim() && !e.textContent.trim() && !e.labels?.length
              && !e.closest('button, label'))
            .map(e => e.outerHTML.slice(0, 120))"""
        )
        assert unnamed == []
