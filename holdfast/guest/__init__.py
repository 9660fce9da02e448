"""What of a disk a guest does not need: swap space, page files, and blocks that no file of a clean file system has.

Everything here reads through a function it is given and mounts nothing (docs/decisions/0010-guest-volumes.md).
"""
