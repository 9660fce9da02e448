"""What a repository asks of its file system."""
