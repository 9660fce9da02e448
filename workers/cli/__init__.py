"""The command line: one file for each family of commands.

``main`` assembles the program and turns errors into exit statuses, ``commands`` gives every command the same options,
``invocation`` is what a command gets to work with, ``following`` and ``progress`` watch running sessions.
"""
