"""Shipped test tools, with which a provider or a site proves that its parts keep the contracts."""
