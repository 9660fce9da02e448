"""The dialling mover: lines to the movers of repositories."""

import socket
import ssl

from holdfast.clock import Clock
from holdfast.errors import ConfigurationInvalid
from holdfast.formats.mover.events import LinkOptions
from holdfast.formats.mover.greeting import Hello
from holdfast.model.points import DiskAccess, MoverAccess
from holdfast.mover.grants import session_of
from holdfast.mover.line import Line
from holdfast.mover.sockets import Address, dial, new_nonce


class MoverClient:
    """Dials movers; one for each process. ``tls`` is the process' own identity, None when it has none."""

    def __init__(self, tls: ssl.SSLContext | None, clock: Clock, options: LinkOptions | None = None) -> None:
        self._tls = tls
        self._clock = clock
        self._options = options if options is not None else LinkOptions()

    def line(self, mover: MoverAccess, access: DiskAccess, attempt: int) -> Line:
        """Return a line for one disk, which dials by itself until it is closed. Raises `ConfigurationInvalid`."""
        address = Address.parse(mover.address)
        if mover.has_tls and self._tls is None:
            raise ConfigurationInvalid(
                f"the mover at {address} wants a certificate, and this worker has none",
                hint="Make one with `holdfast certs` and name it in the table `mover` of the configuration.",
            )
        tls = self._tls if mover.has_tls else None
        session, token = session_of(access), bytes.fromhex(access.token)

        def connect(number: int) -> socket.socket:
            hello = Hello(
                session=session,
                attempt=attempt,
                connection=number,
                connections=self._options.streams,
                nonce=new_nonce(),
            )
            return dial(address, tls, hello, token)

        return Line(self._options, self._clock, connect)
