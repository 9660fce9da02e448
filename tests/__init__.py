"""Tests mirror the sources; architecture/ holds the rules of the tree itself."""
