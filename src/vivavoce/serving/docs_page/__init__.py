"""``/docs``: the OpenAPI description as a page that can be tried out, and loads nothing at all.

The page is one file: its script and style are in it, and its Content-Security-Policy allows these
two by their digests, requests to this server, and nothing else. So it works without a network, no
one else's code runs on the server's origin, and no other page can frame it.

Where keys are set, a browser that has none gets the page too, as the body of the 401: a browser
cannot send a key with a visit, so the page asks for one and sends it with what it does.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from vivavoce.serving.callers import caller
from vivavoce.serving.context import context_of

PATH = "/docs"

router = APIRouter(include_in_schema=False)


def is_asked_for(scope: Scope) -> bool:
    """Whether a browser asks for the page."""
    visited = scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "GET"
    return visited and "text/html" in Headers(scope=scope).get("accept", "")


@router.get(PATH)
async def docs(request: Request) -> Response:
    """The page; 401 where a key is needed and none came."""
    page, policy = _page()
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    if context_of(request).ring.locked and caller.get() is None:
        return HTMLResponse(page, 401, headers | {"WWW-Authenticate": "Bearer"})
    return HTMLResponse(page, 200, headers)


@cache
def _page() -> tuple[str, str]:
    """The page, and the policy that lets it do what it does."""
    script, style = _text("page.js"), _text("page.css")
    page = _text("page.html").replace("/*style*/", style).replace("/*script*/", script)
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)};"
        " connect-src 'self'; media-src blob:; img-src data:; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )
    return page, policy


def _digest(text: str) -> str:
    """As a policy names an inline script or style (CSP level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
