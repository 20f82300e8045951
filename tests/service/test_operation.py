"""What operators see: meters of calls, health by underlying, the audit log, the service manager."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from calib.errors import Forbidden
from calib.service.protection.audit import MOST_LINES, Audit
from calib.service.readiness import health_name
from calib.service.rpc_meters import RpcMeters
from calib.service.service_manager import announced
from calib.v1 import model_risk_pb2, model_risk_service_pb2, surface_service_pb2
from tests.cli.processes import COLD
from tests.service.calls import Stubs, refused
from tests.service.conftest import Start, serving
from tests.service.samples import smile_quotes

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_calls_are_metered_by_method_and_code(start: Start) -> None:
    server, _ = await start(metrics="127.0.0.1:0")
    async with grpc.aio.insecure_channel(server.address) as channel:
        stubs = Stubs(channel)
        for _ in range(3):
            with refused():
                await stubs.surfaces.GetSurface(
                    surface_service_pb2.GetSurfaceRequest(underlying="NONE")
                )
        watch = stubs.surfaces.WatchSurfaces(surface_service_pb2.WatchSurfacesRequest())
        await watch.read()

        def page() -> str:
            with urlopen(f"http://{server.metrics_address}/metrics") as answer:
                text: str = answer.read().decode()
            return text

        said = await asyncio.to_thread(page)
        get, watching = (
            "/calib.v1.SurfaceService/GetSurface",
            "/calib.v1.SurfaceService/WatchSurfaces",
        )
        assert f'calib_rpcs_total{{code="NOT_FOUND",method="{get}"}} 3.0' in said
        assert f'calib_rpc_seconds_count{{method="{get}"}} 3.0' in said
        assert f'calib_rpc_streams{{method="{watching}"}} 1.0' in said
        watch.cancel()
        while f'calib_rpc_streams{{method="{watching}"}} 0.0' not in said:
            said = await asyncio.to_thread(page)
        assert f'calib_rpcs_total{{code="CANCELLED",method="{watching}"}} 1.0' in said
        # Names that a caller makes up leave nothing behind.
        unknown = channel.unary_unary("/calib.v1.SurfaceService/Anything")  # type: ignore[var-annotated]
        with refused() as refusal:
            await unknown(b"")
        assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
        assert "Anything" not in await asyncio.to_thread(page)


async def test_refused_calls_are_metered() -> None:
    async with serving(identities={"anonymous": {"read": ["BTC"]}}) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            with refused():
                await Stubs(channel).surfaces.GetSurface(
                    surface_service_pb2.GetSurfaceRequest(underlying="ETH")
                )
        labels = {"method": "/calib.v1.SurfaceService/GetSurface", "kind": "Forbidden"}
        value = server.meters.registry.get_sample_value("calib_rpcs_refused_total", labels)
        assert value == 1.0


async def test_health_of_an_underlying_is_whether_to_quote_from_its_surface(start: Start) -> None:
    server, client = await start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        name = health_pb2.HealthCheckRequest(service=health_name("BTC"))
        watch = health.Watch(name)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        with refused() as refusal:
            await health.Check(name)
        assert refusal.code is grpc.StatusCode.NOT_FOUND
        await client.publish(smile_quotes("BTC"))
        assert (await watch.read()).status == SERVING
        for level, told in (
            (model_risk_pb2.BREAKER_LEVEL_HALTED, NOT_SERVING),
            (model_risk_pb2.BREAKER_LEVEL_WIDENED, SERVING),
        ):
            force = model_risk_service_pb2.ForceBreakerRequest(
                underlying="BTC", operator="jane", reason="drill", level=level
            )
            await Stubs(channel).risks.ForceBreaker(force)
            assert (await watch.read()).status == told
        watch.cancel()


async def test_a_stale_surface_is_not_healthy(start: Start) -> None:
    server, client = await start(quote_max_age="500ms")
    async with grpc.aio.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service=health_name("BTC"))
        )
        await client.publish(smile_quotes("BTC"))
        while (await watch.read()).status != NOT_SERVING:
            pass
        watch.cancel()


async def test_actions_of_operators_are_on_record(start: Start) -> None:
    with capture_logs() as lines:
        server, client = await start()
        await client.publish(smile_quotes("BTC"))
        await anext(client.watch(["BTC"]))
        async with grpc.aio.insecure_channel(server.address) as channel:
            await Stubs(channel).risks.ReleaseBreaker(
                model_risk_service_pb2.ReleaseBreakerRequest(
                    underlying="BTC", operator="jane", reason="drill"
                )
            )
    (line,) = [line for line in lines if line["event"] == "operates"]
    assert line["method"] == "/calib.v1.ModelRiskService/ReleaseBreaker"
    assert (line["client"], line["operator"], line["underlying"]) == (
        "anonymous@127.0.0.1",
        "jane",
        "BTC",
    )


def test_a_flood_of_refusals_is_counted_and_not_written() -> None:
    now = [7.5]
    meters = RpcMeters(registry := CollectorRegistry())
    audit = Audit(meters, clock=lambda: now[0])
    with capture_logs() as lines:
        for _ in range(MOST_LINES + 30):
            audit.refused("/a/B", "quoter", "ipv4:10.0.0.7:1", Forbidden("x" * 10_000))
        assert len(lines) == MOST_LINES
        now[0] = 8.1
        audit.refused("/a/B", "quoter", "ipv4:10.0.0.7:1", Forbidden("no"))
    assert lines[-1]["unsaid"] == 30
    assert "unsaid" not in lines[0]
    assert max(len(str(line)) for line in lines) < 1_000
    labels = {"method": "/a/B", "kind": "Forbidden"}
    assert registry.get_sample_value("calib_rpcs_refused_total", labels) == MOST_LINES + 31


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket that hears what a service manager is told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(str(tmp_path / "notify"))
        hears.settimeout(60.0)
        yield hears


def heard(manager: socket.socket) -> str:
    return manager.recv(100).decode()


def test_a_start_is_over_when_quotes_are_taken(manager: socket.socket, tmp_path: Path) -> None:
    told = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "100000"}
    with subprocess.Popen(
        [sys.executable, "-m", "calib", "serve", "--listen", "127.0.0.1:0", "--store", "none"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=COLD | told,
    ) as process:
        assert heard(manager) == "READY=1"
        assert [heard(manager) for _ in range(3)] == ["WATCHDOG=1"] * 3
        process.send_signal(signal.SIGTERM)
        while (said := heard(manager)) == "WATCHDOG=1":
            pass
        assert said == "STOPPING=1"
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "service_manager_not_told" not in errors


async def test_a_start_that_fails_is_never_announced(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())

    async def fails() -> None:
        raise RuntimeError("no fit thread")

    warm = asyncio.create_task(fails())
    async with announced(warm):
        await asyncio.wait({warm})
        await asyncio.sleep(0)
    assert heard(manager) == "STOPPING=1"
    assert isinstance(warm.exception(), RuntimeError)
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    with capture_logs() as lines:
        async with announced(warm):
            pass
    assert [line["event"] for line in lines] == ["service_manager_not_told"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    text = (files("calib") / "data" / "calib.service").read_text("utf-8")
    unit = tmp_path / "calib.service"
    unit.write_text(text.replace("/opt/calib/bin/calib", f"{sys.executable} -m calib"))
    for check in (["verify"], ["security", "--offline=true", "--threshold=20"]):
        done = subprocess.run(
            ["systemd-analyze", *check, str(unit)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"SYSTEMD_PAGER": ""},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "calib.service:" not in done.stderr, done.stderr
