"""How a new restore point comes to be."""
