"""Who calls, and what they may do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, field_validator, model_validator

EVERY = "*"
"""In place of an underlying: every one, those to come included."""
ANONYMOUS = "anonymous"
"""The identity of whoever shows no token, and no certificate of another one."""

CALLER: ContextVar[str] = ContextVar("caller", default=ANONYMOUS)
"""The name of the identity behind the call that is being handled."""

LimitName = Literal["streams", "messages_per_second", "bytes_per_second", "rows_per_second"]


class Right(StrEnum):
    """What can be done to an underlying."""

    READ = "read"
    PUBLISH = "publish"
    OPERATE = "operate"


class Limits(BaseModel):
    """How much one client may ask for. Rates are averages over a second or two: a short burst of
    twice as much passes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    streams: int = Field(256, ge=1)
    """Watches and streams of quotes open at once."""
    messages_per_second: float = Field(2_000.0, gt=0.0)
    """Calls, and messages of streams."""
    bytes_per_second: float = Field(64.0 * 2**20, gt=0.0)
    """Of the messages sent to the server."""
    rows_per_second: float = Field(1_000_000.0, gt=0.0)
    """Quotes, ticks and points to evaluate."""


class Grant(BaseModel):
    """The settings of one identity: what it is known by, its rights and its limits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    certificates: tuple[str, ...] = ()
    """Names of client certificates: a subject alternative name, or the common name of one that has
    none."""
    read: frozenset[str] = frozenset()
    """Underlyings whose surfaces, model risk and quotes it may read; ``*``: every one."""
    publish: frozenset[str] = frozenset()
    """Underlyings that it may send quotes of, to be published or only calibrated."""
    operate: frozenset[str] = frozenset()
    """Underlyings whose breakers and marks it may set."""
    limits: dict[LimitName, PositiveFloat] = Field(default_factory=dict)
    """Limits of its own; what is not named is as for all."""

    @field_validator("read", "publish", "operate", "certificates", mode="after")
    @classmethod
    def _named(cls, names: Iterable[str]) -> Iterable[str]:
        if any(not name.strip() for name in names):
            raise ValueError("one of the names is empty")
        return names

    @model_validator(mode="after")
    def _whole(self) -> Grant:
        if not float(self.limits.get("streams", 1)).is_integer():
            raise ValueError(f"limits.streams = {self.limits['streams']} must be a whole number")
        return self


@dataclass(frozen=True)
class Identity:
    """A caller; ``limits`` None: as much as the server as a whole allows."""

    name: str
    rights: Mapping[Right, frozenset[str]]
    limits: Limits | None = None

    def may(self, right: Right, underlying: str) -> bool:
        """Whether it has this right to this underlying."""
        granted = self.rights.get(right, frozenset())
        return EVERY in granted or underlying in granted

    def names(self, right: Right) -> list[str]:
        """The underlyings that it has this right to, in order; ``*`` among them is every one."""
        return sorted(self.rights.get(right, frozenset()))


EVERYBODY = Identity(ANONYMOUS, {right: frozenset({EVERY}) for right in Right})
"""Whoever calls a server that knows no identities."""


def identity(name: str, grant: Grant, limits: Limits) -> Identity:
    """The identity that a grant describes; ``limits`` are those of all."""
    own: dict[str, float] = {
        key: int(value) if key == "streams" else value for key, value in grant.limits.items()
    }
    rights = {
        Right.READ: grant.read,
        Right.PUBLISH: grant.publish,
        Right.OPERATE: grant.operate,
    }
    return Identity(name, rights, limits.model_copy(update=own))
