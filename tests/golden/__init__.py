"""Chains that earlier versions wrote, and the tests that read them."""
