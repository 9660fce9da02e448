"""Tests of each version."""
