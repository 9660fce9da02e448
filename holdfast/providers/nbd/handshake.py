"""The handshake: what a server and we agree on before the first request."""

import msgspec

from holdfast.providers.nbd import protocol
from holdfast.providers.nbd.wire import Wire


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What the handshake agreed on."""

    size_bytes: int
    flags: int
    """``NBD_FLAG_*`` of the transmission phase."""
    blocks: protocol.BlockSizes
    has_structured_replies: bool
    allocation: int | None
    """Id of the context ``base:allocation``; None: the server cannot tell what is allocated."""

    def can(self, flag: int) -> bool:
        """Tell whether the server has a flag set."""
        return bool(self.flags & flag)


def shake_hands(wire: Wire, name: str) -> About:
    """Open the export ``name``. Raises OSError when the server refuses it, or is no NBD server."""
    server_flags = protocol.parse_greeting(wire.receive_bytes(protocol.GREETING_SIZE))
    wire.send(protocol.encode_client_flags(server_flags))
    has_structured_replies = _ask(wire, protocol.NBD_OPT_STRUCTURED_REPLY) is not None
    allocation = _ask_for_allocation(wire, name) if has_structured_replies else None
    export, blocks = _go(wire, name)
    return About(
        size_bytes=export.size_bytes,
        flags=export.flags,
        blocks=blocks,
        has_structured_replies=has_structured_replies,
        allocation=allocation,
    )


def _ask_for_allocation(wire: Wire, name: str) -> int | None:
    data = protocol.encode_meta_context(name, [protocol.BASE_ALLOCATION])
    for kind, payload in _ask(wire, protocol.NBD_OPT_SET_META_CONTEXT, data) or []:
        if kind == protocol.NBD_REP_META_CONTEXT:
            context, found = protocol.parse_meta_context(payload)
            if found == protocol.BASE_ALLOCATION:
                return context
    return None


def _go(wire: Wire, name: str) -> tuple[protocol.ExportInfo, protocol.BlockSizes]:
    data = protocol.encode_go(name, [protocol.NBD_INFO_BLOCK_SIZE])
    export: protocol.ExportInfo | None = None
    blocks = protocol.BlockSizes()
    for kind, payload in _ask(wire, protocol.NBD_OPT_GO, data, is_required=True) or []:
        told = protocol.parse_info(payload) if kind == protocol.NBD_REP_INFO else None
        if isinstance(told, protocol.ExportInfo):
            export = told
        elif told is not None:
            blocks = told
    if export is None:
        raise protocol.ProtocolViolated("the server broke the protocol: it does not tell the size of the export")
    return export, blocks


def _ask(wire: Wire, option: int, data: bytes = b"", *, is_required: bool = False) -> list[tuple[int, bytes]] | None:
    """Return the replies to an option that was accepted; None when the server refuses one we can do without."""
    wire.send(protocol.encode_option(option, data))
    replies: list[tuple[int, bytes]] = []
    while len(replies) <= protocol.OPTION_REPLIES_MAX:
        kind, length = protocol.parse_option_reply(wire.receive_bytes(protocol.OPTION_REPLY_SIZE), option)
        payload = wire.receive_bytes(length)
        if kind == protocol.NBD_REP_ACK:
            return replies
        if kind & protocol.NBD_REP_FLAG_ERROR:
            if is_required:
                raise ConnectionRefusedError(f"the server refuses: {protocol.describe_refusal(kind, payload)}")
            return None
        replies.append((kind, payload))
    raise protocol.ProtocolViolated(f"the server broke the protocol: too many replies to option {option}")
