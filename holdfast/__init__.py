"""Holdfast's engine: protects machines' disks and knows no Temporal.

Map, from the leaves up; a package imports only what stands below it:

- ``errors``, ``clock``: the error tree and the only source of time
- ``model``: nouns, frozen values without behaviour that does I/O
- ``planning``: pure decisions, facts in and a plan out
- ``formats``: pure translation between bytes and values
- ``pipeline``: the data pipe, disk ports and stages
- ``providers``, ``storage``, ``catalog``: hypervisors, repository files, database
- ``testing``: test tools and conformance suites shipped with the product
"""

__version__ = "0.1.0"
