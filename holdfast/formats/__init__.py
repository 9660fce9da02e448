"""Pure translation between bytes and values; no files, no sockets."""
