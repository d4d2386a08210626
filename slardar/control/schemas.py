"""The JSON schemas of what calls of the control channel send and are answered.

Those of upstreams are made from the classes that read them, so they allow what slardar reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from slardar.dataplane.explanation import DecisionTold, Explanation
from slardar.model.server import Server, UpstreamBody

__all__ = ["MEDIA_TYPES", "schemas"]

_PREFIX = "#/components/schemas/"
#: Keys that slardar does not know begin so, and mean nothing to it.
_OWN_KEYS: Mapping[str, Any] = {"^x_": {}}


def _object(**properties: Any) -> dict[str, Any]:
    """An object with these keys, and perhaps others."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _by_name(schema: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": _ref(schema)}


def _list(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(schema)}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": _PREFIX + name}


_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}
_CERTIFICATE = _object(
    name=_TEXT,
    names=_list(_TEXT),
    kind=_TEXT,
    issuer=_TEXT,
    subject=_TEXT,
    serial=_TEXT,
    sha256=_TEXT,
    not_before=_TEXT,
    expires=_TEXT,
    **{"from": _TEXT},
    in_use={"type": "boolean"},
)

#: By name, what is not made from a class.
_OTHERS: Mapping[str, Mapping[str, Any]] = {
    "Any": {},
    "Object": {"type": "object"},
    "Text": _TEXT,
    "Events": _TEXT,
    "Error": _object(status={"type": "integer", "minimum": 400, "maximum": 599}, msg=_TEXT),
    "Done": _object(status={"const": 200}),
    "Ok": {"oneOf": [{"const": "ok"}, _ref("Done")]},
    "Status": _object(
        slardar_version=_TEXT,
        start_time=_TEXT,
        conf_hash={"type": ["string", "null"]},
        shd_config_version=_NUMBER,
        checkup_timer_alive={"type": "boolean"},
        config_timer={"type": "object"},
        fingerprint=_TEXT,
        store={"type": "object"},
    ),
    "Upstreams": _by_name("Object"),
    "Services": _by_name("Object"),
    "Settings": _by_name("Any"),
    "Certificate": _CERTIFICATE,
    "Certificates": _list(_CERTIFICATE),
    "Pair": {**_object(cert=_TEXT, key=_TEXT), "additionalProperties": False},
    "Route": {
        "type": "object",
        "properties": dict.fromkeys(("host", "path", "path_regex", "upstream"), _TEXT),
        "required": ["upstream"],
        "patternProperties": _OWN_KEYS,
        "additionalProperties": False,
    },
    "Routes": _list(_ref("Route")),
    "Declaration": {
        "type": "object",
        "properties": {
            "upstreams": {"type": "object", "additionalProperties": _ref("Upstream")},
            "services": {"type": "object", "additionalProperties": {"type": "object"}},
            "routes": _list(_ref("Route")),
        },
        "additionalProperties": False,
    },
    "Differences": _list(_object(kind=_TEXT, name=_TEXT, change=_TEXT, diff=_TEXT)),
    "Applied": _object(status={"const": 200}, version=_NUMBER, differences=_ref("Differences")),
    "History": _list(_object(version=_NUMBER, time={}, who=_TEXT, kind=_TEXT, name=_TEXT, diff={})),
    "Hooks": _object(
        global_version=_NUMBER, commit_version=_TEXT, version=_NUMBER, modules=_list({})
    ),
}
#: The media type of what is no JSON.
MEDIA_TYPES: Mapping[str, str] = {"Text": "text/plain", "Events": "text/event-stream"}


def schemas() -> dict[str, Any]:
    """Every schema by name, for ``components.schemas`` of OpenAPI 3.1."""
    _, made = msgspec.json.schema_components(
        [UpstreamBody, Server, Explanation, DecisionTold], ref_template=_PREFIX + "{name}"
    )
    made["Decision"] = made.pop("DecisionTold")
    found = {**made, **{name: dict(schema) for name, schema in _OTHERS.items()}}
    for name in made:
        if found[name].get("additionalProperties") is False:
            found[name] = {**found[name], "patternProperties": _OWN_KEYS}
    found["Upstream"] = found.pop("UpstreamBody")
    # A change of a server names any of its keys; the path names the server.
    server = {**found["Server"]}
    server["properties"] = {
        key: schema for key, schema in server["properties"].items() if key not in ("host", "port")
    }
    server.pop("required", None)
    found["ServerKeys"] = server
    return found
