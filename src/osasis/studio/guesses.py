"""Guesses of a studio's password: every wrong one makes those after it wait."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import Receive

FIRST, LONGEST = 1.0, 16.0  # seconds that a guess waits
STEP = 8  # wrong guesses after which the wait doubles
FORGET = 60.0  # seconds after which one of them is forgotten
KNOWN = 4096  # visitors remembered who gave the right password
_MOST = STEP * (1 + round(math.log2(LONGEST / FIRST)))


class Guesses:
    """How long whoever names a password waits for the answer, in all of a studio.

    While wrong ones are remembered a right one waits as long: whoever does not wait must not
    learn which it was. Visitors who gave the right one before do not wait.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._wrong, self._since = clock, 0.0, clock()
        self._known: OrderedDict[str, None] = OrderedDict()

    def wait_of(self, visitor: str, *, right: bool) -> float:
        """Take a guess, right or wrong; returns the seconds until it may be answered."""
        now = self._clock()
        self._wrong, self._since = max(0, self._wrong - (now - self._since) / FORGET), now
        if right and visitor in self._known:
            self._known.move_to_end(visitor)
            return 0.0
        if not right:
            self._known.pop(visitor, None)
            self._wrong = min(self._wrong + 1, _MOST)
        if not self._wrong:
            return 0.0
        return float(min(LONGEST, FIRST * 2 ** ((math.ceil(self._wrong) - 1) // STEP)))

    def remember(self, visitor: str) -> None:
        """A visitor's password was right."""
        self._known[visitor] = None
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)


async def waited(receive: Receive, seconds: float) -> bool:
    """Wait, for a request without a body; False where whoever asked has left meanwhile.

    So no more wait than there are open connections.
    """
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return True
    return False
