"""Explanations and decisions of the real program."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.integration.conftest import Start
from tests.integration.programs import Nginx, curl
from tests.integration.sockets import Client
from tests.integration.test_access_log import lines_of
from tests.integration.test_workers import Team, until

CODE = """
def on_request(request):
    request.headers["X-Seen"] = "1"
    request.upstream = "a"
    log.info("seen")
"""


def test_decision_leads_to_its_record(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """From the reply and from the access log; and before a request comes, its way is told."""
    host, port = nginx.address.split(":")
    server = {"host": host, "port": int(port)}
    spare = {"host": host, "port": 1, "backup": True}
    token = {"name": "t", "role": "admin", "sha256": hashlib.sha256(b"secret").hexdigest()}
    config = {
        "access_log": {"to": "file:a.log"},
        "control": {"tokens": [token]},
        "upstreams": {"a": {"enable": False, "servers": [server, spare]}},
    }
    (tmp_path / "slardar.yaml").write_text(json.dumps(config))
    team = start(Team(tmp_path, "--config", "slardar.yaml", count=2)).ready()
    bearer = ("-H", "Authorization: Bearer secret")

    def call(path: str, *words: str) -> tuple[int, object]:
        status, text = curl(f"http://127.0.0.1:{team.control}{path}", *bearer, *words)
        return status, json.loads(text)

    assert call("/python/script.h?activate=1", "--data-binary", CODE) == (200, "ok")
    status, told = call("/explain?host=h&path=/who&client=10.0.0.9")
    assert isinstance(told, dict)
    assert (status, told["upstream"], told["by"], told["server"]) == (
        200,
        "a",
        "hook",
        nginx.address,
    )
    assert (told["level"], told["candidates"][1]["reason"]) == ("0", "another level serves")
    (effect,) = told["hooks"]
    assert (effect["changes"], effect["log"]) == (["+ X-Seen: 1"], ["info: seen"])
    with Client(("127.0.0.1", team.port)) as client:
        plain = client.get("/who", "h")
        assert "x-decision-id" not in plain.headers
        reply = client.get("/who", "h", "X-Slardar-Explain: secret")
    decision_id = reply.headers["x-decision-id"]
    status, kept = call(f"/decision/{decision_id}")
    assert isinstance(kept, dict)
    assert (status, kept["host"], kept["decision"]["by"]) == (200, "h", "hook")
    assert [one["status"] for one in kept["attempts"]] == [200]
    assert kept["decision"]["worker"] == f"worker-{decision_id.partition('-')[0]}"
    until(lambda: len(lines_of(tmp_path / "a.log")) == 2, "both requests have lines")
    assert [line["decision_id"] for line in lines_of(tmp_path / "a.log")] == [None, decision_id]
    assert call(f"/decision/{decision_id[:-1]}0")[0] in (200, 404)
    assert call("/decision/9-" + "0" * 32)[0] == 404
