"""The OpenAPI description, made to say what is really answered."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from vivavoce.serving.auth import is_open
from vivavoce.serving.clone import CloneForm
from vivavoce.serving.openai_speech import OpenAISpeechBody
from vivavoce.serving.play import PlayBody, TextBody
from vivavoce.serving.problems import documented
from vivavoce.serving.speech_body import SpeechBody
from vivavoce.serving.voices import VoiceForm
from vivavoce.settings import Settings

REFERENCE = "#/components/schemas/{model}"
BODIES: tuple[type[BaseModel], ...] = (
    OpenAISpeechBody, SpeechBody, PlayBody, TextBody, CloneForm, VoiceForm,
)  # fmt: skip


def install_openapi(app: FastAPI, settings: Settings) -> None:
    """Replace the framework's description, which knows nothing of bodies that routes read."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app, settings)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]


def _describe(app: FastAPI, settings: Settings) -> dict[str, Any]:
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
            if settings.api_keys and not is_open(path, method):
                _lock(operation)
    if settings.api_keys:
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
    for form in (CloneForm, VoiceForm):
        for field in definitions[form.__name__]["properties"].values():
            _without_null(field)
    return definitions


def _without_null(field: dict[str, Any]) -> None:
    """A form leaves a field out; it has no null."""
    options = [option for option in field.pop("anyOf", []) if option != {"type": "null"}]
    if options:
        field.update(options[0])
        field.pop("default", None)


def _lock(operation: dict[str, Any]) -> None:
    operation["security"] = [{"bearer": []}, {"header": []}]
    reference = {"$ref": REFERENCE.format(model="ErrorEnvelope")}
    operation["responses"]["401"] = {
        "description": documented(401)[401]["description"],
        "content": {"application/json": {"schema": reference}},
    }
