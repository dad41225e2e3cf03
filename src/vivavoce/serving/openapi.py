"""The OpenAPI description, made to say what is really answered."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from vivavoce.serving.access import is_open
from vivavoce.serving.body import SpeechBody
from vivavoce.serving.context import ServerContext
from vivavoce.serving.dialects.clone import CloneForm
from vivavoce.serving.dialects.openai import OpenAISpeechBody
from vivavoce.serving.dialects.play import PlayBody, TextBody
from vivavoce.serving.dialects.voices import VoiceForm
from vivavoce.serving.minting import TokenBody
from vivavoce.serving.origins import SAFE_METHODS
from vivavoce.serving.problems import documented
from vivavoce.settings import Settings

REFERENCE = "#/components/schemas/{model}"
BODIES: tuple[type[BaseModel], ...] = (
    OpenAISpeechBody, SpeechBody, PlayBody, TextBody, CloneForm, VoiceForm, TokenBody,
)  # fmt: skip
FORMS: tuple[type[BaseModel], ...] = (CloneForm, VoiceForm)


def install_openapi(app: FastAPI, context: ServerContext) -> None:
    """Replace the framework's description, which knows nothing of bodies that routes read."""

    def describe() -> dict[str, Any]:
        locked = context.ring.locked
        if locked not in described:
            described[locked] = _describe(app, context.settings, locked)
        return described[locked]

    described: dict[bool, dict[str, Any]] = {}

    app.openapi = describe  # type: ignore[method-assign]


def _describe(app: FastAPI, settings: Settings, locked: bool) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    components.update(_bodies(settings))
    for path, operations in schema["paths"].items():
        if "get" in operations:
            operations["head"] = _head_of(operations["get"])
        for method, operation in operations.items():
            operation["responses"].pop("422", None)
            _refusals(operation, 421)
            if method.upper() not in SAFE_METHODS:
                _refusals(operation, 403)
            if locked and not is_open(path, method):
                _lock(operation)
    if locked:
        schema["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
    return schema


def _head_of(operation: dict[str, Any]) -> dict[str, Any]:
    """HEAD is answered as GET is, without the body."""
    responses = {
        status: {name: value for name, value in response.items() if name != "content"}
        for status, response in operation["responses"].items()
    }
    name = operation["operationId"].removesuffix("_get")
    return operation | {"operationId": f"{name}_head", "responses": responses}


def _bodies(settings: Settings) -> dict[str, Any]:
    _, schema = models_json_schema(
        [(model, "validation") for model in BODIES], ref_template=REFERENCE
    )
    definitions: dict[str, Any] = schema["$defs"]
    for definition in definitions.values():
        for name in ("input", "text"):
            if name in definition["properties"]:
                definition["properties"][name]["maxLength"] = settings.max_input_chars
    for form in FORMS:
        for field in definitions[form.__name__]["properties"].values():
            _without_null(field)
    for body in set(BODIES) - set(FORMS):
        described = definitions[body.__name__]
        for name, field in described["properties"].items():
            if name not in described.get("required", ()):
                _with_null(field)
    return definitions


def _without_null(field: dict[str, Any]) -> None:
    """A form leaves a field out; it has no null."""
    options = [option for option in field.pop("anyOf", []) if option != {"type": "null"}]
    if options:
        field.update(options[0])
        field.pop("default", None)


def _with_null(field: dict[str, Any]) -> None:
    """In JSON null says that a field is not given."""
    if {"type": "null"} in field.get("anyOf", ()):
        return
    about = ("title", "description", "default")
    kind = {name: field.pop(name) for name in [*field] if name not in about}
    field["anyOf"] = [kind, {"type": "null"}]


def _lock(operation: dict[str, Any]) -> None:
    operation["security"] = [{"bearer": []}, {"header": []}]
    _refusals(operation, 401, 403)


def _refusals(operation: dict[str, Any], *statuses: int) -> None:
    """What the door answers before any route is asked."""
    reference = {"$ref": REFERENCE.format(model="ErrorEnvelope")}
    for status in statuses:
        operation["responses"][str(status)] = {
            "description": documented(status)[status]["description"],
            "content": {"application/json": {"schema": reference}},
        }
