"""What visitors' files are kept in."""

from __future__ import annotations

from pathlib import Path

import pytest

from osasis.errors import UserError
from osasis.studio.config import Limits
from osasis.studio.store import PHOTO, STYLE, Store, new_token, plain_name


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def note(text: str = "x" * 100):
    return lambda folder: (folder / "a.txt").write_text(text) and None


def test_visitors_see_their_own_and_nobody_else(tmp_path: Path) -> None:
    store = Store(tmp_path, Limits())
    one, other = store.visitor(new_token()), store.visitor(new_token())
    item = one.add(PHOTO, "me", note(), {"size": [3, 4]})
    assert one.item(item.id, PHOTO).data == {"size": [3, 4]}
    assert [i.id for i in one.items(PHOTO)] == [item.id]
    assert other.items(PHOTO) == []
    for key in (item.id, f"../{one.id}/{item.id}", "..", "", "/etc"):
        with pytest.raises(UserError, match="no item of that id"):
            other.item(key)


def test_a_secret_is_not_in_the_folder(tmp_path: Path) -> None:
    store, token = Store(tmp_path, Limits()), new_token()
    store.visitor(token).add(PHOTO, "me", note())
    assert not [p for p in tmp_path.rglob("*") if token in str(p)]
    for wrong in ("", "short", "../" * 20, "a" * 200, "a" * 31 + "/"):
        with pytest.raises(UserError, match="no visitor"):
            store.visitor(wrong)


def test_what_fails_halfway_leaves_nothing(tmp_path: Path) -> None:
    visitor = Store(tmp_path, Limits()).visitor(new_token())

    def broken(folder: Path) -> None:
        (folder / "a.txt").write_text("half")
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        visitor.add(PHOTO, "me", broken)
    assert list(visitor.folder.iterdir()) == []


def test_limits_of_one_and_of_all(tmp_path: Path) -> None:
    store = Store(tmp_path, Limits(visitor_bytes=1_000_000, all_bytes=1_500_000))
    one, other = store.visitor(new_token()), store.visitor(new_token())
    one.add(PHOTO, "a", note("x" * 1_000_000))
    with pytest.raises(UserError, match="1 MB, which is the limit"):
        one.add(PHOTO, "b", note())
    other.add(PHOTO, "c", note("x" * 600_000))
    with pytest.raises(UserError, match="disk is full"):
        store.visitor(new_token()).add(PHOTO, "d", note())
    with store.reserved(other, 1) as upload:
        assert upload is None
    other.remove(other.items(PHOTO)[0])
    store.sweep()
    with store.reserved(other, 1) as upload:
        assert upload is not None


def test_sweep_removes_what_has_expired_and_keeps_what_is_needed(tmp_path: Path) -> None:
    clock = Clock()
    store = Store(tmp_path, Limits(keep_hours=24, keep_style_days=30), clock)
    visitor = store.visitor(new_token())
    photo, needed = visitor.add(PHOTO, "old", note()), visitor.add(PHOTO, "needed", note())
    style = visitor.add(STYLE, "style", note())
    upload = store.uploads / "a" / "b.png"
    upload.parent.mkdir()
    upload.write_bytes(b"x")
    clock.now += 23 * 3600
    fresh = visitor.add(PHOTO, "fresh", note())
    assert store.sweep() == 0
    clock.now += 2 * 3600
    assert store.sweep(frozenset({needed.id})) == 1
    assert {i.id for i in visitor.items(PHOTO)} == {needed.id, fresh.id}
    assert not photo.folder.exists() and style.folder.exists()
    clock.now = upload.stat().st_mtime + 31 * 86400
    store.sweep()
    assert not visitor.folder.exists() and not upload.parent.exists()


def test_only_uploads_are_opened(tmp_path: Path) -> None:
    store = Store(tmp_path / "data", Limits())
    inside, outside = store.uploads / "a.png", tmp_path / "secret.txt"
    inside.write_bytes(b"x")
    outside.write_text("secret")
    link = store.uploads / "link.png"
    link.symlink_to(outside)
    assert store.uploaded(inside) == inside.resolve()
    for path in (outside, link, "/etc/passwd", store.uploads / ".." / ".." / "secret.txt", "x"):
        with pytest.raises(UserError, match="not an uploaded file"):
            store.uploaded(path)


def test_names_are_for_people_only() -> None:
    assert plain_name("../../etc/passwd", "x") == "etc passwd"
    assert plain_name("<script>alert(1)</script>", "x") == "script alert(1) script"
    assert plain_name("\x00\n\u202e...", "photo") == "photo"
    assert len(plain_name("a" * 500, "x")) == 60
