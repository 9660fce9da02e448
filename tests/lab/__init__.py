"""The stand-ins of the lab behave as the products they stand for."""
