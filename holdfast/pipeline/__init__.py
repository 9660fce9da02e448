"""The data pipe: disk ports, stages between them, and the figures of where time went."""
