"""Disks over NBD, against real nbdkit servers and against servers that break the protocol."""
