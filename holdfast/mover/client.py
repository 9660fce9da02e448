"""The dialling mover: lines to the movers of repositories."""

import secrets
import socket
import ssl

import msgspec

from holdfast.clock import Clock
from holdfast.errors import ConfigurationInvalid, LinkRefused
from holdfast.formats.mover.events import LinkOptions
from holdfast.formats.mover.greeting import SESSION_SIZE, TOKEN_SIZE_MIN, Hello
from holdfast.model.points import DiskAccess, MoverAccess
from holdfast.mover.grants import session_of
from holdfast.mover.line import Line
from holdfast.mover.sockets import Address, MoverTls, dial, new_nonce


class MoverClient:
    """Dials movers; one for each process. ``tls`` is the process' own identity, None when it has none."""

    def __init__(self, tls: MoverTls | None, clock: Clock, options: LinkOptions | None = None) -> None:
        self._tls = tls
        self._clock = clock
        self._options = options if options is not None else LinkOptions()

    def line(self, mover: MoverAccess, access: DiskAccess, attempt: int) -> Line:
        """Return a line for one disk, which dials by itself until it is closed. Raises `ConfigurationInvalid`."""
        address = Address.parse(mover.address)
        tls = self._tls_for(address, has_tls=mover.has_tls)
        session, token = session_of(access), bytes.fromhex(access.token)
        options = self._options_for(mover)

        def connect(number: int) -> socket.socket:
            hello = Hello(
                session=session,
                attempt=attempt,
                connection=number,
                connections=max(options.streams, options.streams_far),
                nonce=new_nonce(),
            )
            return dial(address, tls, hello, token, self._clock)

        return Line(options, self._clock, connect)

    def _options_for(self, mover: MoverAccess) -> LinkOptions:
        """Return the bounds and times of a line as far as the mover's worker has no wishes, else as it wishes."""
        options = self._options
        if mover.patience_s is not None:
            options = msgspec.structs.replace(options, give_up_s=mover.patience_s)
        if mover.connections is not None:
            options = options.with_streams(mover.connections)
        return options

    def probe(self, address: Address, *, has_tls: bool) -> None:
        """Return when a mover answers there that this process may greet.

        Raises `OSError`, `LinkError` and `ConfigurationInvalid`.
        """
        tls = self._tls_for(address, has_tls=has_tls)
        session, token = secrets.token_bytes(SESSION_SIZE), secrets.token_bytes(TOKEN_SIZE_MIN)
        hello = Hello(session=session, attempt=1, connection=0, connections=1, nonce=new_nonce())
        try:
            dial(address, tls, hello, token, self._clock).close()
        except LinkRefused as error:
            if isinstance(error.__cause__, ssl.SSLError):
                raise
            # A mover that answers and does not know a token that was never issued is what was to be found.

    def _tls_for(self, address: Address, *, has_tls: bool) -> MoverTls | None:
        if has_tls and self._tls is None:
            raise ConfigurationInvalid(
                f"the mover at {address} wants a certificate, and this worker has none",
                hint="Make one with `holdfast certs` and name it in the table `mover` of the configuration.",
            )
        return self._tls if has_tls else None
