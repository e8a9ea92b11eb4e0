"""The studio as one web application, and its server."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from osasis.errors import OsasisError, UserError
from osasis.extras import need
from osasis.files import reserved
from osasis.hub.download import unusable_proxies
from osasis.studio.config import StudioConfig

SESSIONS = 300


def _prepare(uploads: Path) -> None:
    """Tell Gradio where uploads go, and to send no reports; it reads this when it is imported."""
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # of a monitor that is shut: what it keeps, and after how many events it adds that up
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = "1000000000"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def import_gradio(uploads: Path) -> Any:
    """Gradio, set up.

    Raises:
        UserError: it is not installed.
    """
    _prepare(uploads)
    for name in unusable_proxies():  # Gradio would not start; a page of one's own needs none
        del os.environ[name]
    return need("gradio", "the studio", "studio")


def build_app(service: Any) -> Any:
    """The ASGI application of a `Service`: page, API, files, and the gate before them."""
    gr = import_gradio(service.store.uploads)
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from osasis.studio.api import add_files
    from osasis.studio.connect import Sessions, build_page
    from osasis.studio.gate import Gate
    from osasis.studio.page import look

    config: StudioConfig = service.config
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_files(app, service)
    page = build_page(service)
    # what Gradio remembers of a page or call; a page that is open asks often enough to stay
    page.state_session_capacity = SESSIONS
    page.has_launched = True  # its own check of paths is off in mounted pages otherwise
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        root_path=config.root_path or None,
        allowed_paths=[],
        show_error=False,
        max_file_size=max(config.limits.upload_bytes, config.limits.style_bytes),
        ssr_mode=False,
        enable_monitoring=False,
        run_history=False,
        pwa=False,
        footer_links=[],
        **look(),
    )
    mounted: Any = app.routes[-1]
    mounted.app.state_holder = Sessions()
    mounted.app.state_holder.set_blocks(page)
    hosts = list(config.domains)
    if config.is_local:
        hosts += ["localhost", "127.0.0.1", "[::1]"]
    gated = Gate(app, config, service.store)
    # a page of another site that has its name point here must not get in
    return TrustedHostMiddleware(gated, allowed_hosts=hosts) if hosts else gated


def server_of(config: StudioConfig, app: Any) -> Any:
    """The uvicorn server of an application."""
    import uvicorn

    from osasis.studio.door import ALL, Door, protocol

    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=config.host,
            port=config.port,
            log_level="warning",
            http=protocol(Door()),
            ws="none",
            timeout_graceful_shutdown=3,
            limit_concurrency=ALL + 100,  # the door keeps below it
        )
    )


def check_address(config: StudioConfig) -> None:
    """Say at once that somebody listens there already.

    Raises:
        OsasisError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":  # as the server does: what was just left may be used again
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            raise OsasisError(
                f"cannot listen on {config.host}:{config.port}: {error.strerror or error}",
                hint="is another studio running? --port chooses another",
            ) from error


def serve(config: StudioConfig, ready: Callable[[], None]) -> None:
    """Load the base, listen, and work until Ctrl-C; `ready` is called before listening.

    Raises:
        UserError: no Gradio, no base, an address that cannot be listened on, or a folder that
            another studio uses.
    """
    check_address(config)
    import_gradio(config.data / "uploads")
    from osasis.base import load_base
    from osasis.studio.service import Service

    with _alone(config.data):
        service = Service(config, load_base(config.base, device=config.device))
        server = server_of(config, build_app(service))
        ready()
        try:
            server.run()
        except SystemExit as stopped:  # uvicorn has said why on its log
            raise OsasisError(
                f"cannot listen on {config.host}:{config.port}",
                hint="is another studio running? --port chooses another",
            ) from stopped
        finally:
            service.close()


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Keep another studio from the same files: it would take what runs here for left over."""
    with ExitStack() as stack:
        try:
            stack.enter_context(reserved(data / "studio"))
        except UserError as error:
            raise UserError(
                f"another studio uses {data}", hint="stop it, or choose another --data"
            ) from error
        yield
