"""Data movers: the sockets and threads around the protocol of `holdfast.formats.mover`."""
