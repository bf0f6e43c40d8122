"""What the server refuses, without a browser."""

import json

import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse

from nadoo_video.command import open_model
from nadoo_video.page.server import MOST_BYTES, create_app

RUN = "ws://localhost:8765/api/run"
PLAN = {"site": 3, "steps": [{"do": "grab"}]}


@pytest.fixture(scope="module")
def client(generated):
    app = create_app(open_model(generated, "25%"), generated)
    with TestClient(app, base_url="http://localhost:8765", raise_server_exceptions=False) as client:
        yield client


def test_its_own_page_is_served(client):
    own = {"Origin": "http://localhost:8765"}
    assert client.get("/api/memory", headers=own).status_code == 200
    assert client.get("/api/presets").status_code == 200
    with client.websocket_connect(RUN, headers=own) as socket:
        socket.send_json({"plans": [PLAN], "seconds": 3})
        assert "predicted" in socket.receive_json()


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Host": ""}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
    ],
)
def test_other_sites_are_refused(client, headers, code):
    assert client.get("/api/memory", headers=headers).status_code == code
    assert client.post("/api/memory", json={"share": 0.5}, headers=headers).status_code == code
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect(RUN, headers=headers),
    ):
        pass
    assert refused.value.status_code == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('{"share": Infinity}', 422),
        ('{"share": -Infinity}', 422),
        ('{"share": NaN}', 422),
        ('{"share": 1e999}', 422),
        ('{"share": "a"}', 422),
        ('{"share": ' + "[" * 100_000, 400),
        ('{"share": ' + "[" * 2000 + "]" * 2000 + "}", 400),
        ('{"share": 0.5, "rest": "' + "a" * MOST_BYTES + '"}', 413),
        ("\xff", 400),
    ],
)
def test_numbers_and_bodies_that_make_no_sense_are_refused(client, body, code):
    body = body.encode("latin-1")
    answer = client.post("/api/memory", content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.status_code == code, answer.text


@pytest.mark.parametrize(
    "message",
    [
        json.dumps({"plans": [PLAN], "seconds": float("inf")}),
        json.dumps({"plans": [PLAN], "seconds": float("nan")}),
        json.dumps({"plans": [PLAN | {"wind": float("nan")}]}),
        json.dumps({"plans": [PLAN | {"steps": [{"do": "wait", "seconds": float("inf")}]}]}),
        json.dumps({"plans": []}),
        json.dumps({"plans": [PLAN] * 17}),
        "[" * 100_000,
        '{"plans": [{"steps": ' + "[" * 5000 + "]" * 5000 + "}]}",
        "",
    ],
)
def test_wrong_plans_are_told(client, message):
    with client.websocket_connect(RUN) as socket:
        socket.send_text(message)
        assert socket.receive_json()["error"]
