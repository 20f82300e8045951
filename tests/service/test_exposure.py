"""Secure by default: what can be reached from elsewhere is protected, or somebody has said not."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from calib.errors import InvalidRequest
from calib.service.protection.exposure import is_loopback, warn_if_open
from calib.service.settings import load_settings

TLS = {"tls_certificate": "server.pem", "tls_key": "server.key"}
KNOWN = {"identities": {"anonymous": {"read": ["*"]}}}


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.8.9.10:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.1.2.3:1", False),
        ("localhost.example:1", False),
        ("calib.desk:1", False),
    ],
)
def test_what_can_be_reached_from_elsewhere(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback
    given = {"listen": address}
    if loopback:
        assert load_settings(flags=given).listen == address
        return
    with pytest.raises(InvalidRequest, match="without TLS: set tls_certificate and tls_key") as one:
        load_settings(flags=given | KNOWN)
    assert repr(address) in str(one.value)
    with pytest.raises(InvalidRequest, match="everybody may do everything: set identities"):
        load_settings(flags=given | TLS)
    assert load_settings(flags=given | TLS | KNOWN).tls is not None
    assert load_settings(flags=given | {"insecure": True}).listen == address


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"metrics": "0.0.0.0:9100"}, "metrics = '0.0.0.0:9100' is beyond loopback"),
        ({"tokens": "tokens", "identities": {"a": {}}}, "tokens travel in the clear without TLS"),
        ({"tls_key": "server.key"}, "tls_certificate and tls_key belong together"),
        ({"tls_client_ca": "ca.pem"}, "tls_client_ca needs tls_certificate and tls_key"),
        (TLS | {"tokens": "tokens"}, "tokens needs identities"),
        (TLS | {"identities": {"a": {"read": ["*"]}}}, "identities.a can never call"),
        (
            TLS | {"identities": {"a": {"certificates": ["a"]}}},
            "identities.a.certificates needs tls_client_ca",
        ),
        (
            {"identities": {"anonymous": {"certificates": ["a"]}}},
            "identities.anonymous has no certificates",
        ),
        (
            {"identities": {"a": {"certificates": ["x"]}, "b": {"certificates": ["x"]}}},
            "certificate 'x' belongs to both 'a' and 'b'",
        ),
        ({"identities": {"a": {"raed": ["*"]}}}, "there is no setting 'identities.a.raed'"),
        ({"identities": {"a": {"read": "*"}}}, "setting identities.a.read = '*'"),
        ({"identities": {"a": {"read": [" "]}}}, "one of the names is empty"),
        ({"identities": {"a": {"limits": {"streams": 0.5}}}}, "streams = 0.5 must be a whole numb"),
        ({"identities": {"a": {"limits": {"rows_per_second": 0}}}}, "rows_per_second = 0"),
        ({"limits": {"streams": 0}}, "setting limits.streams = 0"),
    ],
)
def test_settings_that_protect_nothing_are_refused_by_name(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        load_settings(flags=given)
    assert said in str(caught.value)


def test_settings_that_come_from_the_environment_are_checked_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CALIB_LISTEN", "0.0.0.0:50051")
    with pytest.raises(InvalidRequest, match="without TLS"):
        load_settings()
    monkeypatch.setenv("CALIB_INSECURE", "true")
    assert load_settings().listen == "0.0.0.0:50051"
    monkeypatch.setenv("CALIB_IDENTITIES", '{"anonymous": {"read": ["BTC"]}}')
    assert load_settings().identities["anonymous"].read == {"BTC"}


def test_what_is_left_open_is_said_at_the_start() -> None:
    with capture_logs() as lines:
        warn_if_open(load_settings(flags={"listen": "0.0.0.0:1", "insecure": True}))
        warn_if_open(load_settings(flags={"insecure": True}))
    assert [line["event"] for line in lines] == ["insecure", "insecure"]
    assert "without TLS" in lines[0]["opening"]
    assert "everybody may do everything" in lines[1]["opening"]
