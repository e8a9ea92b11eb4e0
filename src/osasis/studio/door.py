"""Connections of a studio: few per address, and none that stays without asking for anything."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

ALL = 700  # connections; systems often allow 1,024 open files
FROM_HERE = 600  # from this machine itself, where a reverse proxy may stand for everybody
FROM_ONE = 64  # from another address
SILENCE = 20.0  # seconds without a request


def group_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or the network of 2^64 that IPv6 hands out."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), 64), strict=False))


class Door:
    """Knows every connection; makes room by closing those that wait longest without a request.

    Args:
        all_: connections of everybody.
        from_here, from_one: connections of this machine, and of another address.
        silence: seconds after which a connection without a request is closed.
    """

    def __init__(
        self,
        all_: int = ALL,
        from_here: int = FROM_HERE,
        from_one: int = FROM_ONE,
        silence: float = SILENCE,
    ) -> None:
        self._all, self._from_here, self._from_one = all_, from_here, from_one
        self.silence = silence
        self._open: dict[Connection, str] = {}

    def enter(self, new: Connection, address: str) -> None:
        """Let a connection in; where there are too many, the most silent one goes, or this one."""
        group = group_of(address)
        self._open[new] = group
        same = [other for other, its in self._open.items() if its == group]
        here = group in ("127.0.0.1", str(ipaddress.ip_network("::/64")), "")
        if len(same) > (self._from_here if here else self._from_one):
            self._make_room(same, new)
        elif len(self._open) > self._all:
            self._make_room(list(self._open), new)

    def leave(self, gone: Connection) -> None:
        """A connection is closed."""
        self._open.pop(gone, None)

    def _make_room(self, among: list[Connection], new: Connection) -> None:
        silent = [other for other in among if other is not new and not other.is_busy()]
        leaves = min(silent, key=lambda other: other.silent_since, default=new)
        self.leave(leaves)
        leaves.transport.abort()


class Connection(H11Protocol):
    """One connection, as uvicorn serves it, watched by a door."""

    door: Door
    silent_since = 0.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """It is open."""
        super().connection_made(transport)
        self.silent_since = self.loop.time()
        peer = transport.get_extra_info("peername") or ("",)
        self.door.enter(self, str(peer[0]))
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        if self._timer is not None:
            self._timer.cancel()
        self.door.leave(self)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """A request was answered: silence begins anew."""
        self.silent_since = self.loop.time()
        super().on_response_complete()

    def is_busy(self) -> bool:
        """Whether a request was read and is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        if self.is_busy():
            self.silent_since = self.loop.time()
        elif self.loop.time() - self.silent_since > self.door.silence:
            self.transport.abort()
            return
        self._timer = self.loop.call_later(self.door.silence / 4, self._watch)


def protocol(door: Door) -> type[Connection]:
    """The class of connections that `door` watches, for `uvicorn.Config`."""
    return type("Watched", (Connection,), {"door": door})
