"""The description of the HTTP control channel, made from the table that routes its calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slardar import __version__
from slardar.control.operation import Operation
from slardar.control.schemas import MEDIA_TYPES, schemas

__all__ = ["describe"]

_PREFIX = "#/components/schemas/"
_JSON = "application/json"
#: The statuses with which any call may be refused, and those of calls with a body or a change.
_REFUSALS: Mapping[str, str] = {
    "400": "A wrong name, parameter or body.",
    "401": "A token is needed.",
    "403": "The caller may not do this.",
    "404": "There is no such thing.",
    "429": "Too many wrong tokens came from this address.",
    "431": "The head is too long.",
    "500": "A bug, or a change that is stored but not served everywhere.",
    "503": "Not possible at the moment.",
}
_OF_CHANGES: Mapping[str, str] = {
    "409": "The store holds another state, or something else stands in the way.",
    "412": "If-Match or If-None-Match does not hold.",
    "413": "The body is too long.",
}
#: What the words in capitals of a path stand for.
_WORDS: Mapping[str, Mapping[str, Any]] = {
    "NAME": {"type": "string", "minLength": 1, "examples": ["www.example.com"]},
    "SERVER": {"type": "string", "minLength": 1, "examples": ["127.0.0.1:8001"]},
    "KEY": {"type": "string", "minLength": 1, "examples": ["myargs"]},
    "LANGUAGE": {"type": "string", "enum": ["lua", "python"]},
    "ID": {"type": "string", "minLength": 1},
    "VERSION": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}


def describe(operations: Sequence[Operation]) -> dict[str, Any]:
    """The whole description, as OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        words = operation.path.split("/")[1:]
        path = "".join(f"/{{{word.lower()}}}" if word.isupper() else f"/{word}" for word in words)
        found = paths.setdefault(path, {})
        for method in operation.methods:
            found[method.lower()] = _call(operation, method, [w for w in words if w.isupper()])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "slardar",
            "version": __version__,
            "description": "The control channel of a slardar.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _call(operation: Operation, method: str, words: Sequence[str]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name
        if method == operation.methods[0]
        else f"{operation.name}-{method.lower()}",
        "summary": operation.about,
        "parameters": [
            *(
                {"name": word.lower(), "in": "path", "required": True, "schema": _WORDS[word]}
                for word in words
            ),
            *(
                {
                    "name": parameter.name,
                    "in": "query",
                    "description": parameter.about,
                    "schema": parameter.schema,
                }
                for parameter in operation.parameters
            ),
        ],
        "responses": {
            "200": {
                "description": "Done.",
                "headers": {"ETag": {"schema": {"type": "string"}}},
                "content": _content(operation.answer),
            },
            **{
                status: {"description": text, "content": _content("Error")}
                for status, text in _errors(operation).items()
            },
        },
    }
    if operation.is_change:
        described["parameters"] += [
            {
                "name": name,
                "in": "header",
                "description": f"The change is made only if this holds (RFC 9110, {section}).",
                "schema": {"type": "string"},
            }
            for name, section in (("If-Match", "13.1.1"), ("If-None-Match", "13.1.2"))
        ]
    if operation.body:
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
    return described


def _errors(operation: Operation) -> Mapping[str, str]:
    if not operation.is_change:
        return _REFUSALS
    return dict(sorted({**_REFUSALS, **_OF_CHANGES}.items()))


def _content(schemas: str) -> dict[str, Any]:
    return {
        MEDIA_TYPES.get(schema, _JSON): {"schema": {"$ref": _PREFIX + schema}}
        for schema in schemas.split()
    }
