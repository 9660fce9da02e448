"""The TLS handshake of a mover with itself, in memory, which tells whether others accept its certificate.

Both sides are those of real connections, so the answer is theirs: dates, authority, purposes and names are looked at by
the same code, in the same order.
"""

import ssl

from holdfast.mover.sockets import Identity

_TURNS_MAX = 10
"""More than any handshake takes, which is three."""


def objection(identity: Identity, host: str | None = None) -> str | None:
    """Return why two movers of this identity refuse each other, None when they do not.

    With ``host`` the certificate has to be good for that host name or IP address, too. Raises `ConfigurationInvalid`
    when the files cannot be used at all.
    """
    dialling = identity.context(ssl.PROTOCOL_TLS_CLIENT)
    dialling.check_hostname = host is not None
    listening = identity.context(ssl.PROTOCOL_TLS_SERVER)
    to_listener, to_dialler = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        dialling.wrap_bio(to_dialler, to_listener, server_hostname=host),
        listening.wrap_bio(to_listener, to_dialler, server_side=True),
    ]
    try:
        for _ in range(_TURNS_MAX):
            sides = [side for side in sides if not _is_done(side)]
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:
        return error.reason or str(error)
    assert not sides, "a handshake in memory comes to an end"
    return None


def _is_done(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
