"""Tests of holdfast.planning."""
