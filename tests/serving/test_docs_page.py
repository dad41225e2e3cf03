"""The page at /docs: whole by itself, and of use where a key is needed."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

import pytest
from tests.serving.conftest import LiveServer, Serve

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def directives(policy: str) -> dict[str, list[str]]:
    """A Content-Security-Policy, taken apart."""
    parts = [part.split() for part in policy.split(";")]
    return {name: values for name, *values in parts}


def test_the_page_loads_nothing(server: LiveServer) -> None:
    answer = server.client.get("/docs", headers=BROWSER)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", answer.text)
    assert not re.findall(r"<(?:script|img|iframe)[^>]+src|@import|url\(", answer.text)
    assert re.findall(r'href="([^"]*)"', answer.text) == ["data:,"]


def test_its_policy_allows_its_own_script_and_style_alone(server: LiveServer) -> None:
    answer = server.client.get("/docs")
    policy = directives(answer.headers["content-security-policy"])
    for kind, directive in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[directive] == [f"'sha256-{digest}'"]
    for directive in ("default-src", "base-uri", "form-action", "frame-ancestors"):
        assert policy[directive] == ["'none'"]
    assert policy["connect-src"] == ["'self'"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_its_script_makes_no_markup_of_what_it_is_told() -> None:
    script = files("vivavoce.serving.docs_page").joinpath("page.js").read_text("utf-8")
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert word not in script
    assert "localStorage" not in script and "sessionStorage" not in script


def test_where_a_key_is_needed_a_browser_gets_the_page_that_asks_for_it(serve: Serve) -> None:
    server = serve(api_keys="a key of the server")
    visit = server.client.get("/docs", headers=BROWSER)
    assert visit.status_code == 401
    assert visit.headers["www-authenticate"] == "Bearer"
    assert 'id="key" type="password"' in visit.text
    assert "script-src" in visit.headers["content-security-policy"]
    program = server.client.get("/docs")
    assert program.status_code == 401
    assert program.json()["error"]["code"] == "invalid_api_key"
    key = {"X-API-Key": "a key of the server"}
    assert server.client.get("/docs", headers=BROWSER | key).status_code == 200
    assert server.client.get("/openapi.json", headers=BROWSER).status_code == 401


@pytest.mark.parametrize("path", ["/docs/oauth2-redirect", "/redoc", "/docs/"])
def test_nothing_else_is_served_beside_it(server: LiveServer, path: str) -> None:
    assert server.client.get(path, headers=BROWSER).status_code == 404
