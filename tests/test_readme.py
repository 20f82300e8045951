"""The README says what is so: its code runs, its tables are complete, its rule is published."""

import re
import subprocess
import sys
from enum import IntEnum, StrEnum
from hashlib import sha256
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
import pandas as pd
import pytest

import calib
from calib.cli.app import app
from calib.client import StaleCause
from calib.quotes.reasons import Reason
from calib.service.server import running
from calib.service.settings import load_settings
from calib.states import FitState, SurfaceState
from tests.cli.processes import server_with_store
from tests.cli.samples import CommandLine
from tests.service.certificates import Authority, needs_openssl

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def table(subject: str) -> dict[str, str]:
    """The table whose first column is headed by ``subject``: what stands beside each name."""
    body = README.partition(f"\n| {subject}")[2].partition("\n\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", body, re.MULTILINE))


def comment_before(declaration: str) -> str:
    """The comment that stands right before a declaration in the proto of surfaces."""
    proto = (ROOT / "protos/calib/v1/surface.proto").read_text("utf-8")
    lines: list[str] = []
    for line in reversed(proto[: proto.index(declaration)].splitlines()):
        if not line.startswith("//"):
            break
        lines.insert(0, line.removeprefix("//").removeprefix(" "))
    return "\n".join(lines)


def ran(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_evaluation_rule_is_the_published_one() -> None:
    rule, smiles = blocks("text")
    assert rule.strip() == comment_before("message Surface {").partition("EVALUATION\n")[2].strip()
    formulas = [comment_before(f"message {name}Parameters {{") for name in ("Svi", "Essvi", "Sabr")]
    assert smiles.strip() == "\n\n".join(formulas).strip()


def test_the_quick_start_for_a_quant_runs(tmp_path: Path) -> None:
    quant, *_ = blocks("python")
    printed = ran(quant, tmp_path)
    assert "in_spread_share" in printed
    assert "IN_THE_MONEY" in printed
    assert (tmp_path / "smiles.png").read_bytes().startswith(b"\x89PNG")


def test_five_lines_of_code_lead_from_a_csv_file_to_smiles(tmp_path: Path) -> None:
    _, five, *_ = blocks("python")
    assert sum(map(bool, five.splitlines())) == 5
    quotes = pd.read_parquet(calib.sample_quotes())
    quotes = quotes[(quotes.underlying == "SPX") & (quotes.quote_time == quotes.quote_time.min())]
    names = {"quote_time": "asof", "underlying": "root", "right": "cp", "bid": "best_bid"}
    quotes = quotes.rename(columns=names).drop(columns=["venue", "unit", "forward", "spot"])
    quotes.to_csv(tmp_path / "quotes.csv", index=False)
    printed = ran(five + "print(len(_.axes) if (_ := calib.plot.smiles(fit)) else 0)", tmp_path)
    assert printed.strip() == "6"


def test_every_picture_and_every_notebook_is_listed() -> None:
    listed = set(re.findall(r"`(\w+)\(", README.partition("| `calib.plot.…`")[2].split("\n\n")[0]))
    assert listed == set(calib.plot.__all__)
    found = {path.name for path in (ROOT / "notebooks").glob("*.py")}
    assert set(re.findall(r"^\| `(\d_\w+\.py)` \|", README, re.MULTILINE)) == found


def test_what_a_surface_tells_is_told(tmp_path: Path) -> None:
    (told,) = (block for block in blocks("python") if "surface.handles()" in block)
    printed = ran(told, tmp_path)
    assert "risk_reversal_25" in printed
    assert 0.0 < float(printed.strip().splitlines()[-1]) < 3.0  # the index, a decimal vol


@pytest.fixture
def calib_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def test_the_quick_start_for_a_quoting_engine_runs(
    calib_command: CommandLine, tmp_path: Path
) -> None:
    _, _, quoter, engine, *_ = blocks("python")
    with server_with_store(tmp_path) as address:
        sent = calib_command("replay", calib.sample_quotes(), "--to", address, "--speed", 0)
        assert sent.code == 0
        printed = ran(quoter.replace("127.0.0.1:50051", address), tmp_path)
        held = ran(engine.replace("127.0.0.1:50051", address), tmp_path)
    # The sample is older than any limit, and a simulated market is not quoted from.
    assert held == "BTC None\n"
    first, vol = printed.splitlines()
    assert first.startswith(("BTC", "ETH"))
    assert 0.3 < float(vol) < 1.0


async def test_what_a_publisher_and_a_reader_of_quotes_do_runs(tmp_path: Path) -> None:
    published, watched = blocks("py")
    quotes = calib.read_quotes(calib.sample_quotes())
    now = quotes.quote_time.min()
    chain = quotes.take((quotes.quote_time == now) & quotes.underlying.equal("BTC"))
    names = {
        "calib": calib,
        "chain": chain,
        "update": chain.take(np.arange(5)),
        "now": now,
        "forwards": {chain.expiry.max(): 70_000.0},
    }
    with server_with_store(tmp_path) as address:
        async with calib.connect(address) as client:
            await client.wait_until_serving()
        lines = published.replace("127.0.0.1:50051", address) + "    return ack, publisher.lag"
        exec("async def publish():\n" + indent(lines, "    "), names)
        acknowledged, lag = await names["publish"]()
        async with calib.connect(address) as names["client"]:
            exec("async def watch():\n" + indent(watched + "    return update", "    "), names)
            update = await names["watch"]()
    assert (update.underlying, len(update.quotes)) == ("BTC", acknowledged.accepted)
    assert (acknowledged.accepted, acknowledged.snapshot_needed) == (len(chain), False)
    assert lag.messages <= 1  # the one that was not waited for


@needs_openssl
async def test_a_server_and_a_client_as_it_protects_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (toml,) = blocks("toml")
    (connecting,) = (block for block in blocks("python") if "Credentials" in block)
    authority, token = Authority(tmp_path, "ca"), "a-long-token-of-the-desk"
    authority.server()
    authority.signs("quoter", alternatives="DNS:quoter.desk.example")
    write(tmp_path / "tokens", f"risk-desk sha256:{sha256(token.encode()).hexdigest()}\n")
    text = toml.replace("clients-ca.pem", "ca.pem").replace("/etc/calib", str(tmp_path))
    write(tmp_path / "calib.toml", text.replace("0.0.0.0:50051", "127.0.0.1:0"))
    monkeypatch.chdir(tmp_path)
    flags = {"store": "none", "warm_up": False}
    async with running(load_settings(tmp_path / "calib.toml", flags)) as there:
        await there.warm
        names: dict[str, Any] = {"calib": calib}
        exec(connecting.replace("surfaces.desk.example:50051", there.address), names)
        async with names["client"] as client:
            with pytest.raises(calib.NotFitted):
                await client.get("BTC")
            with pytest.raises(calib.Forbidden, match="'quoter' may publish no underlying"):
                await client.publish(calib.read_quotes(calib.sample_quotes()))


def write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


def test_every_command_that_it_names_exists_with_its_options(calib_command: CommandLine) -> None:
    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    groups = {str(group.name) for group in app.registered_groups}
    known |= groups
    prose, code = README.split("```")[::2], README.split("```")[1::2]
    shown = re.findall(r"^calib ([a-z]+)\b([^#\n]*)", "\n".join(code), re.MULTILINE)
    shown += re.findall(r"`calib ([a-z]+)\b([^`]*)", "\n".join(prose))
    found: set[str] = set()
    for name, rest in shown:
        found.add(name)
        assert name in known, rest
        inner = rest.split()[:1] if name in groups else []
        help_text = calib_command(name, *inner, "--help").out
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in help_text, (name, option)
    assert found == known


def test_every_public_name_that_it_uses_exists() -> None:
    names = set(re.findall(r"\bcalib\.([A-Za-z_]+)\b(?!/)", "\n".join(blocks("python")) + README))
    for name in names - {"v1", "db", "service"}:  # the last two are names of files
        assert hasattr(calib, name) or (ROOT / "calib" / name).is_dir(), name


@pytest.mark.parametrize(
    ("subject", "members"),
    [
        ("state of an expiry", FitState),
        ("state of a surface", SurfaceState),
        ("cause of staleness", StaleCause),
        ("reason", Reason),
    ],
)
def test_every_state_and_reason_is_explained(
    subject: str, members: type[IntEnum | StrEnum]
) -> None:
    explained = table(subject)
    assert set(explained) == {member.name for member in members if member}
    for member in members:
        if member and isinstance(member, Reason):
            assert explained[member.name] == member.text


def test_every_room_is_on_the_map() -> None:
    rooms = {path.parent.name for path in (ROOT / "calib").glob("*/__init__.py")}
    for room in rooms:
        assert f"`calib/{room}/`" in README, room


def test_its_links_lead_somewhere() -> None:
    anchors = {
        heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", README, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in anchors
        else:
            assert (ROOT / target).exists(), target
