"""The description of the control channel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from slardar.control.openapi import describe
from slardar.control.operations import OPERATIONS, Operation
from slardar.control.schemas import schemas
from tests.control.fakes import FakePlane, FakeStore, WebClient, make_actions, upstream

DESCRIBED = describe(OPERATIONS)


def refs(value: Any) -> Iterator[str]:
    """Every reference in a description."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key == "$ref":
                yield one
            else:
                yield from refs(one)
    elif isinstance(value, list):
        for one in value:
            yield from refs(one)


def test_references_lead_somewhere() -> None:
    known = {f"#/components/schemas/{name}" for name in schemas()}
    assert set(refs(DESCRIBED)) <= known
    assert len(set(refs(DESCRIBED))) > 10


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_is_described(operation: Operation) -> None:
    """With a line for people, its parameters, and what it may answer."""
    words = operation.path.split("/")[1:]
    path = "".join(f"/{{{word.lower()}}}" if word.isupper() else f"/{word}" for word in words)
    for method in operation.methods:
        call = DESCRIBED["paths"][path][method.lower()]
        assert call["summary"].endswith(".")
        assert call["operationId"].startswith(operation.name)
        named = {one["name"]: one for one in call["parameters"] if one["in"] == "query"}
        assert list(named) == [parameter.name for parameter in operation.parameters]
        assert all(one["description"].endswith(".") for one in named.values())
        in_path = {one["name"] for one in call["parameters"] if one["in"] == "path"}
        assert in_path == {word.lower() for word in words if word.isupper()}
        assert {"200", "400", "401", "403", "404", "503"} <= set(call["responses"])
        assert ("412" in call["responses"]) == operation.is_change
        assert ("requestBody" in call) == bool(operation.body)


def test_it_is_served() -> None:
    """As JSON that a client can read, also to a token that is limited to names."""
    actions = make_actions(FakeStore(), FakePlane(), upstreams={"a": upstream(1)})
    reply = WebClient(actions).call("GET", "/openapi.json")
    assert reply.status == 200
    assert reply.json == json.loads(json.dumps(DESCRIBED))
    assert reply.json["openapi"] == "3.1.0"
    properties = reply.json["components"]["schemas"]["Upstream"]["properties"]
    assert properties["try"]["anyOf"]
    assert properties["mode"]["default"] == "wrr"
