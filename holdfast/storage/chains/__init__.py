"""Chain folders and the repository that holds them."""
