"""What stands before the page: who may ask, for what, and how much they may send."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from osasis.errors import UserError
from osasis.studio.calls import unknown_endpoint, wrong_call
from osasis.studio.config import StudioConfig
from osasis.studio.door import group_of
from osasis.studio.guesses import Guesses, waited
from osasis.studio.store import Store, is_token, new_token

COOKIE, HEADER = "osasis_visitor", "x-osasis-visitor"
_COOKIE_SECONDS = 400 * 86400
# what the page, its API and its files need; everything else of the web framework stays shut,
# its own file server, proxy, monitor and state endpoints included
_PAGES = (
    "/", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json", "/results.zip",
    "/gradio_api/info", "/gradio_api/upload", "/gradio_api/upload_progress",
    "/gradio_api/startup-events", "/gradio_api/app_id", "/gradio_api/reset", "/gradio_api/cancel",
)  # fmt: skip
_BELOW = (
    "/assets/", "/static/", "/svelte/", "/files/", "/examples/", "/studio.", "/gradio_api/queue/",
    "/gradio_api/call/", "/gradio_api/heartbeat/",
)  # fmt: skip
UPLOAD = "/gradio_api/upload"
_JSON_BYTES = 1_000_000  # of any other request
_PATIENCE = 20.0  # seconds for a body, or for the next piece of an upload
_SLOWEST = 4096  # bytes a second of an upload, after that time
_CLOSE = {"Connection": "close"}
_BUSY = "wrong passwords are being tried: open the page, or GET /config, before sending anything"
# the page's own scripts come from here, and nothing is fetched from anywhere else
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' "
    "data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)


class Gate:
    """ASGI middleware: password, open routes, size of requests, the visitor's cookie.

    Args:
        app: what stands behind it.
        config: password and limits.
        store: says whether there is room for uploads.
    """

    def __init__(self, app: ASGIApp, config: StudioConfig, store: Store) -> None:
        self._app, self._config, self._store = app, config, store
        self._guesses = Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # the page needs no websockets
        token, is_new = _token(scope)
        refusal, receive = await self._refusal(scope, receive, token)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        address = address_of(scope)
        scope.setdefault("state", {}).update(visitor=token, address=address)
        cookie = _cookie(token, scope) if is_new else None
        if scope["path"] == UPLOAD:
            limit = self._config.limits.request_bytes
            length = int(Headers(scope=scope).get("content-length", limit))
            with self._store.reserved(self._store.visitor(token, address), length) as upload:
                if upload is not None:
                    limited = _Limited(receive, _answering(send, cookie), limit)
                    with suppress(ClientDisconnect):  # the visitor has left, or seems to have
                        await self._app(scope, limited, limited.send)
                    upload.count = limited.came
                    if limited.is_over:
                        ended = PlainTextResponse("too slow, or too large", 408, _CLOSE)
                        await ended(scope, receive, send)
                else:
                    full = PlainTextResponse("there is no room for more uploads", 507)
                    await full(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(_body(receive), _PATIENCE)
        except TimeoutError:
            slow = PlainTextResponse("too slow", 408, _CLOSE)
            await slow(scope, receive, send)
            return
        misread = self._misread(scope["path"], body)
        if misread is not None:
            await misread(scope, receive, send)
            return
        await self._app(scope, _Replayed(body or b"", receive), _answering(send, cookie))

    def _misread(self, path: str, body: bytes | None) -> PlainTextResponse | None:
        """Why the body of a request cannot be taken; None where it can.

        Every file it names was uploaded: Gradio copies what a request names before any function of
        ours sees it, and looks where it lies only in pages that it has launched itself.
        """
        if body is None:
            most = f"at most {_JSON_BYTES // 10**6} MB"
            return PlainTextResponse(f"a request that is no upload may have {most}", 413, _CLOSE)
        if not body:
            return None
        try:
            found = json.loads(body, parse_constant=_no_constant)
            named = list(_paths(found))
        except ValueError as error:
            return PlainTextResponse(f"the request is no JSON: {error}", 400)
        except RecursionError:
            return PlainTextResponse("the request has too many brackets in brackets", 400)
        if not all(map(self._is_upload, named)):
            return PlainTextResponse("only uploaded files can be named", 403)
        wrong = wrong_call(path, found)
        return PlainTextResponse(wrong, 400) if wrong else None

    def _is_upload(self, path: object) -> bool:
        try:
            return isinstance(path, str) and bool(self._store.uploaded(path))
        except (UserError, OSError, ValueError):
            return False

    async def _refusal(
        self, scope: Scope, receive: Receive, visitor: str
    ) -> tuple[PlainTextResponse | None, Receive]:
        """Why a request is not let in; what gives the rest of one that is."""
        if not self._is_own_page(Headers(scope=scope)):
            return PlainTextResponse("only the studio's own page may ask", 403), receive
        refusal, receive = await self._admission(scope, receive, visitor)
        return refusal or self._misfit(scope), receive

    async def _admission(
        self, scope: Scope, receive: Receive, visitor: str
    ) -> tuple[PlainTextResponse | None, Receive]:
        headers = Headers(scope=scope)
        if self._config.password is None:
            return None, receive
        right = self._is_right(headers)
        if "authorization" in headers:
            seconds = self._guesses.wait_of(visitor, right=right)
            if seconds and _has_body(headers):
                return PlainTextResponse(_BUSY, 429, {"Retry-After": f"{seconds:.0f}"}), receive
            if seconds:
                right = await waited(receive, seconds) and right
                receive = _Replayed(b"", receive)
        if right:
            self._guesses.remember(visitor)
            return None, receive
        ask = {"WWW-Authenticate": 'Basic realm="OSASIS studio", charset="UTF-8"'}
        return PlainTextResponse("the password is missing or wrong", 401, ask), receive

    def _misfit(self, scope: Scope) -> PlainTextResponse | None:
        headers, path = Headers(scope=scope), scope["path"]
        if path not in _PAGES and not path.startswith(_BELOW):
            return PlainTextResponse("not found", 404)
        if unknown := unknown_endpoint(path):
            return PlainTextResponse(unknown, 404)
        length = headers.get("content-length", "0")
        limit = self._config.limits.request_bytes
        if not length.isdigit() or int(length) > limit:
            return PlainTextResponse(f"a request may have at most {limit // 10**6} MB", 413)
        return None

    def _is_own_page(self, headers: Headers) -> bool:
        """Whether a request comes from the studio's own page, or from no page at all."""
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site") != "cross-site" or _is_visit(headers)
        return urlsplit(origin).netloc in (headers.get("host", ""), *self._config.domains)

    def _is_right(self, headers: Headers) -> bool:
        kind, _, encoded = headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
        expected = (self._config.password or "").encode()
        return kind.lower() == "basic" and secrets.compare_digest(given, expected)


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def address_of(scope: Scope) -> str:
    """Where a request comes from; all addresses of one IPv6 network are one."""
    return group_of((scope.get("client") or ("",))[0])


def _is_visit(headers: Headers) -> bool:
    """Whether somebody follows a link to the page."""
    return headers.get("sec-fetch-mode") == "navigate"


async def _body(receive: Receive) -> bytes | None:
    """The whole body of a request; None where it is too large or the visitor has left."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or len(body) > _JSON_BYTES:
            return None
        if not message.get("more_body"):
            return body


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _paths(value: Any) -> Iterator[object]:
    """Everything called "path" in decoded JSON."""
    inside = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict) and "path" in value:
        yield value["path"]
    if isinstance(value, (dict, list)):
        for part in inside:
            yield from _paths(part)


class _Replayed:
    """`receive` that gives a body that was read already, then what comes after it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Limited:
    """`receive` and `send` of an upload; one of more than `limit` bytes, or with hardly any, ends.

    To the application its visitor has left then, and what it answers is not sent.
    """

    def __init__(self, receive: Receive, send: Send, limit: int) -> None:
        self._receive, self._send, self._limit = receive, send, limit
        self.came, self._whole, self.is_over = 0, False, False
        self._began = time.monotonic()

    async def __call__(self) -> Message:
        if self._whole:  # what comes now is that the visitor leaves
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), _PATIENCE)
        except TimeoutError:
            self.is_over = True
            return {"type": "http.disconnect"}
        self.came += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        late = time.monotonic() - self._began - _PATIENCE
        if self.came > self._limit or (not self._whole and self.came < _SLOWEST * late):
            self.is_over = True
            return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        """Send what the application answers."""
        if not self.is_over:
            await self._send(message)


def _token(scope: Scope) -> tuple[str, bool]:
    """The visitor's secret, and whether it is a new one; a script may send its own as a header."""
    headers = Headers(scope=scope)
    given = headers.get(HEADER) or cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
    return (given, False) if is_token(given) else (new_token(), True)


def _cookie(token: str, scope: Scope) -> str:
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    path = scope.get("root_path") or "/"
    return (
        f"{COOKIE}={token}; Max-Age={_COOKIE_SECONDS}; Path={path}; HttpOnly; SameSite=Lax{secure}"
    )


def _answering(send: Send, cookie: str | None) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name in [name for name in headers if name.startswith("access-control-")]:
                del headers[name]  # Gradio lets pages of other ports of this machine read answers
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "no-referrer"
            headers["Content-Security-Policy"] = _POLICY
            if cookie is not None:
                headers.append("Set-Cookie", cookie)
        await send(message)

    return answer
