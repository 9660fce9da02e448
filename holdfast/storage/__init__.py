"""The files of a repository."""
