"""The address of a server on the command line, and whether a server answers there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from calib.errors import Unavailable

if TYPE_CHECKING:
    from calib.client.credentials import Credentials

SECONDS_TO_ANSWER = 5.0


def host_and_port(text: str) -> str:
    """``text``, where it reads HOST:PORT; bad usage otherwise."""
    from calib.conventions import ADDRESS  # numpy comes with it, which `--help` does without

    if not re.fullmatch(ADDRESS, text):
        raise typer.BadParameter(f"{text!r} is not HOST:PORT, for example 127.0.0.1:50051")
    return text


From = Annotated[
    str, typer.Option("--from", metavar="HOST:PORT", callback=host_and_port, help="The server.")
]
To = Annotated[str, typer.Option(metavar="HOST:PORT", callback=host_and_port, help="The server.")]
Underlyings = Annotated[
    list[str] | None, typer.Argument(metavar="UNDERLYING", help="All, if none is named.")
]


async def check_answers(address: str, credentials: Credentials | None = None) -> None:
    """Raise Unavailable unless a server answers at ``address``, be it still warming up."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from calib.client.credentials import open_channel

    async with open_channel(address, credentials, ()) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        try:
            await check(health_pb2.HealthCheckRequest(), timeout=SECONDS_TO_ANSWER)
        except grpc.aio.AioRpcError as error:
            how = "in the clear" if credentials is None else "over TLS"
            raise Unavailable(
                f"no calib server answers at {address} {how} ({error.code().name}); "
                f"start one with: calib serve --listen {address}"
            ) from None
