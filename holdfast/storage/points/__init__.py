"""Restore points inside chain files: written, and read as disks."""
