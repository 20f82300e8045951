"""Whether a server is protected as far as it can be reached: beyond loopback not without TLS."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING

import structlog

from calib.service.protection.callers import owners
from calib.service.protection.identity import ANONYMOUS

if TYPE_CHECKING:
    from calib.service.settings import ServiceSettings

_log = structlog.get_logger(__name__)


def is_loopback(address: str) -> bool:
    """Whether HOST:PORT can be reached from this machine only; a name counts by what it says."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_protection(settings: ServiceSettings) -> None:
    """Raise ValueError where settings contradict each other, or leave a server open by mistake."""
    problems = [*_contradictions(settings)]
    if not settings.insecure:
        problems += _openings(settings)
    if problems:
        raise ValueError("; ".join(problems))


def warn_if_open(settings: ServiceSettings) -> None:
    """Log what ``insecure`` leaves open."""
    for opening in _openings(settings):
        _log.warning("insecure", opening=opening.partition(": ")[0])


def _contradictions(settings: ServiceSettings) -> Iterator[str]:
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        yield "tls_certificate and tls_key belong together: set both, or neither"
    if settings.tls_client_ca is not None and settings.tls_certificate is None:
        yield "tls_client_ca needs tls_certificate and tls_key"
    if settings.tokens is not None and not settings.identities:
        yield "tokens needs identities: the names in the file, each with its rights"
    anonymous = settings.identities.get(ANONYMOUS)
    if anonymous is not None and anonymous.certificates:
        yield "identities.anonymous has no certificates: it is whoever shows none"
    for name, grant in settings.identities.items():
        if settings.tokens is None and not grant.certificates and name != ANONYMOUS:
            yield f"identities.{name} can never call: it needs certificates, or a line in tokens"
    by_certificate = owners(settings.identities)
    if by_certificate and settings.tls_client_ca is None:
        name = next(iter(by_certificate.values()))
        yield f"identities.{name}.certificates needs tls_client_ca, which they are checked by"


def _openings(settings: ServiceSettings) -> Iterator[str]:
    listen, metrics = settings.listen, settings.metrics
    if not is_loopback(listen):
        if settings.tls_certificate is None:
            yield (
                f"listen = {listen!r} is beyond loopback, without TLS: set tls_certificate and "
                "tls_key; or insecure = true (--insecure) for a network that is closed to others"
            )
        if not settings.identities:
            yield (
                f"listen = {listen!r} is beyond loopback, and everybody may do everything: set "
                "identities; or insecure = true (--insecure) for a network that is closed to others"
            )
    if settings.tokens is not None and settings.tls_certificate is None:
        yield (
            "tokens travel in the clear without TLS: set tls_certificate and tls_key; or "
            "insecure = true where TLS ends in front of the server"
        )
    if metrics is not None and not is_loopback(metrics):
        yield (
            f"metrics = {metrics!r} is beyond loopback, without TLS: take 127.0.0.1 and a proxy; "
            "or insecure = true for a network that is closed to others"
        )
