"""Who a call comes from: the owner of its token, else of its certificate, else anybody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from calib.errors import InvalidRequest
from calib.service.protection.identity import (
    ANONYMOUS,
    EVERYBODY,
    Grant,
    Identity,
    Limits,
    identity,
)
from calib.service.protection.tokens import Tokens
from calib.service.refusals import Unauthenticated

_BEARER = "bearer "


class Callers:
    """The identities of a server. Without any, everybody may do everything."""

    def __init__(
        self, grants: Mapping[str, Grant], limits: Limits, tokens: Tokens | None = None
    ) -> None:
        self._identities = {name: identity(name, grant, limits) for name, grant in grants.items()}
        self._owners = owners(grants)
        self._tokens = tokens
        self._nobody = self._identities.get(ANONYMOUS)
        self.stranger = Identity(ANONYMOUS, {}, limits)
        """Who is not known at all."""

    def caller(self, authorization: str | bytes | None, certificate: Iterable[bytes]) -> Identity:
        """The identity behind a call's ``authorization`` and the names in its certificate.

        A token goes before a certificate. Raises Unauthenticated where neither is known, and none
        is needed by nobody.
        """
        if not self._identities:
            return EVERYBODY
        if authorization is not None:
            return self._bearer(authorization)
        names = [name.decode("utf-8", "replace") for name in certificate]
        found = {self._owners[name] for name in names if name in self._owners}
        if len(found) == 1:
            return self._identities[found.pop()]
        if found:
            raise Unauthenticated(f"the certificate names {', '.join(sorted(found))} at once")
        if self._nobody is not None:
            return self._nobody
        raise Unauthenticated(
            f"no identity has a certificate of {', '.join(names)}"
            if names
            else "who calls? Send a bearer token as authorization, or use a client certificate"
        )

    def refuses(self, authorization: str | bytes | None) -> bool:
        """Whether a call is from nobody whatever its certificate says."""
        if not self._identities or (authorization is None and (self._owners or self._nobody)):
            return False
        try:
            self.caller(authorization, ())
        except Unauthenticated:
            return True
        return False

    @property
    def version(self) -> int:
        """Changes when those who were known may be known no longer."""
        if self._tokens is None:
            return 0
        self._tokens.look()
        return self._tokens.version

    def _bearer(self, authorization: str | bytes) -> Identity:
        known = isinstance(authorization, str) and authorization[: len(_BEARER)].lower() == _BEARER
        if not known:
            raise Unauthenticated("authorization must be: Bearer TOKEN")
        if self._tokens is None:
            raise Unauthenticated("this server takes no tokens")
        token = str(authorization)[len(_BEARER) :].strip()
        owner = self._tokens.owner(token)
        if owner is None:
            raise Unauthenticated("this token is not known; it may have been exchanged")
        return self._identities[owner]


def owners(grants: Mapping[str, Grant]) -> dict[str, str]:
    """The identity of each name in a certificate; raises InvalidRequest where one has two."""
    found: dict[str, str] = {}
    for name, grant in grants.items():
        for each in grant.certificates:
            if found.setdefault(each, name) != name:
                raise InvalidRequest(
                    f"certificate {each!r} belongs to both {found[each]!r} and {name!r}"
                )
    return found
