"""Chains for people: looked at, imported, compared, proved."""
