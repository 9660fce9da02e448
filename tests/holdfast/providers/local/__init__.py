"""Tests of the local provider."""
