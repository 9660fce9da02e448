"""What has happened: sessions, tasks, events and the restore points known, in SQLite or PostgreSQL.

The catalog is a memory, not the truth: restore points live in repositories and can be read without
it. It answers "what ran and how did it end", and it remembers the newest state of every chain, so
that a repository that was rolled back is noticed. Temporal repeats activities, so everything
written here may be written twice without a difference.

``database`` opens a catalog; ``session_table`` and ``point_table`` are its two faces; ``points``
and ``events`` hold the values that the model does not have; ``rows`` is the only translation
between values and rows.
"""
