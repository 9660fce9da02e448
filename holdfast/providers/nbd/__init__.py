"""Disks behind the NBD protocol, and the nbdkit processes that serve them.

Any hypervisor whose disks an nbdkit plugin can read is read through here: `server` starts the plugin, `disk` is the
`DiskReader` and `DiskWriter` over it, `client` is one connection, `protocol` the bytes on it. `vddk` words the
parameters of VMware's plugin.
"""
