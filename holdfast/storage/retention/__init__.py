"""Which points stay, and the removal of the others."""
