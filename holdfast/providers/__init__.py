"""Hypervisors behind one set of ports."""
