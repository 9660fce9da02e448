"""The protocol between two data movers: bytes in, events out (docs/formats/mover-protocol.md)."""
