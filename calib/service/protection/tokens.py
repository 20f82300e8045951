"""Bearer tokens: a file says whose they are, and is read again when it changes.

A line is an identity and one of its tokens, or the hash of one; an identity may have several, so
that an old one and a new one hold side by side while they are exchanged::

    quoter  sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
    feed    a-token-that-nobody-guesses  # in the clear; then only its user may read the file
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from stat import S_IROTH, S_IWOTH
from time import monotonic

import structlog

from calib.errors import InvalidRequest
from calib.files import stamp_of
from calib.service.protection.identity import ANONYMOUS

SHORTEST = 20
"""Characters of a token in the clear; shorter ones can be guessed."""
_LOOK_EVERY = 1.0
_HASH = re.compile(r"sha256:([0-9a-fA-F]{64})")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Token:
    """Whose a token is, and its SHA-256; the token itself is kept nowhere."""

    identity: str
    digest: bytes


class Tokens:
    """The tokens of a file. A change that cannot be read is logged, and changes nothing.

    ``known`` are the identities that there are. Raises InvalidRequest, naming file and line, where
    the file cannot be used at the start.
    """

    def __init__(
        self, path: Path, known: Collection[str], *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._path = path
        self._known = known
        self._clock = clock
        self._stamp = stamp_of(path)
        self._tokens = read_tokens(path, known)
        self._looked = clock()
        self.version = 1
        """Counts how often other tokens were read."""

    def owner(self, token: str) -> str | None:
        """The identity that a token belongs to; None: to none. Takes as long for either."""
        self.look()
        digest, found = sha256(token.encode("utf-8", "surrogatepass")).digest(), None
        for each in self._tokens:
            if hmac.compare_digest(each.digest, digest):
                found = each.identity
        return found

    def look(self) -> None:
        """Read the file again if it has changed; at most once a second it is looked at."""
        now = self._clock()
        if now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        stamp = stamp_of(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._tokens = read_tokens(self._path, self._known)
        except InvalidRequest as error:
            _log.error("tokens_not_read", error=str(error))
        else:
            self.version += 1
            _log.info("tokens_read", path=str(self._path), tokens=len(self._tokens))


def read_tokens(path: Path, known: Collection[str]) -> tuple[Token, ...]:
    """The tokens of a file; raises InvalidRequest, naming the line but never what it holds."""
    try:
        lines, mode = path.read_text("utf-8").splitlines(), path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"token file {path} cannot be read: {_why(error)}") from error
    if mode & S_IWOTH:
        raise InvalidRequest(f"token file {path} can be written by every user: chmod 600 {path}")
    tokens = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        where = f"token file {path}, line {number}"
        if len(words) != 2:
            raise InvalidRequest(f"{where}: is not an identity and a token")
        name, text = words
        if name not in known or name == ANONYMOUS:
            names = ", ".join(sorted(set(known) - {ANONYMOUS})) or "none"
            raise InvalidRequest(f"{where}: there is no identity {name!r} (there is {names})")
        hashed = _HASH.fullmatch(text)
        if not hashed and text.startswith("sha256:"):
            raise InvalidRequest(f"{where}: sha256: must be followed by 64 hexadecimal digits")
        if not hashed and len(text) < SHORTEST:
            raise InvalidRequest(f"{where}: a token needs {SHORTEST} characters or more")
        if not hashed and mode & S_IROTH:
            raise InvalidRequest(
                f"{where}: a token in the clear, and every user can read it: chmod 600 {path}, "
                "or keep its sha256: there"
            )
        digest = bytes.fromhex(hashed[1]) if hashed else sha256(text.encode()).digest()
        tokens.append(Token(name, digest))
    return tuple(tokens)


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not text"
