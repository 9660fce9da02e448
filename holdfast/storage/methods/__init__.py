"""Backup methods: what is done with the files of a chain behind a session."""
