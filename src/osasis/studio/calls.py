"""What a request to the API must look like: said in a line, before Gradio sees it."""

from __future__ import annotations

from typing import Any

_CALL = "/gradio_api/call/"
_PHOTO, _TEXT, _NUMBER, _SETTINGS = "an uploaded file", "a text", "a number", "an object"
_KINDS = {_PHOTO: dict, _TEXT: str, _NUMBER: (int, float), _SETTINGS: (dict, type(None))}
ENDPOINTS = {
    "stylize": {"photo": _PHOTO, "style": _TEXT, "settings": _SETTINGS},
    "learn": {"picture": _PHOTO, "name": _TEXT, "seed": _NUMBER},
    "status": {"job": _TEXT},
    "cancel": {"job": _TEXT},
}


def unknown_endpoint(path: str) -> str:
    """What is wrong with the name of an endpoint; empty for nothing."""
    name = path.removeprefix(_CALL).partition("/")[0]
    if not path.startswith(_CALL) or name in ENDPOINTS:
        return ""
    return f"there is no endpoint {name!r:.40}; there are {', '.join(ENDPOINTS)}"


def wrong_call(path: str, body: Any) -> str:
    """What is wrong with the decoded body of a request; empty for nothing."""
    values = ENDPOINTS.get(path.removeprefix(_CALL)) if path.startswith(_CALL) else None
    if values is None:
        return "" if isinstance(body, dict) else "a request is a JSON object"
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list) or len(data) != len(values):
        return f'a request is {{"data": [...]}} with {", ".join(values)} in the list'
    for value, (name, kind) in zip(data, values.items(), strict=True):
        if not isinstance(value, _KINDS[kind]) or isinstance(value, bool):  # type: ignore[arg-type]
            return f"{name} must be {kind}, got {value!r:.40}"
        if kind == _PHOTO and not isinstance(value.get("path"), str):
            return f'{name} must be {kind}: {{"path": PATH}}, PATH as the upload answered'
    return ""
