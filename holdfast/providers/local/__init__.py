"""A directory that behaves as a hypervisor: its machines' disks are files or block devices.

The layout of the directory, and what a snapshot of a running machine is worth, stand in
docs/local.md.
"""
