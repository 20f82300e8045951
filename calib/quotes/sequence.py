"""A publisher's count of its messages: what follows, what is missing, what came before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Step(StrEnum):
    """What a number says of its message.

    NEXT: nothing is missing before it, or nobody counts. GAP: messages before it never came.
    RESTART: the count begins again at 1, and all that was said before is over. REPEAT: its like was
    taken already, or later ones were.
    """

    NEXT = "next"
    GAP = "gap"
    RESTART = "restart"
    REPEAT = "repeat"


@dataclass(frozen=True)
class Sequence:
    """A count as far as it was heard.

    ``last``: the last number that was taken, 0 before the first. ``missed`` messages that never
    came, ``repeated`` ones and ``restarts``, all since the server's start.
    """

    last: int = 0
    missed: int = 0
    repeated: int = 0
    restarts: int = 0

    def heard(self, number: int) -> tuple[Sequence, Step]:
        """The count after a message of this number; 0 is none, and leaves it as it is."""
        if number == 0:
            return self, Step.NEXT
        if number == 1 and self.last > 0:
            return replace(self, last=1, restarts=self.restarts + 1), Step.RESTART
        if number <= self.last:
            return replace(self, repeated=self.repeated + 1), Step.REPEAT
        missing = number - self.last - 1 if self.last else 0
        after = replace(self, last=number, missed=self.missed + missing)
        return after, Step.GAP if missing else Step.NEXT
