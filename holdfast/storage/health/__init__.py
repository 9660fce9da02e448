"""Damage: found, written down, repaired."""
