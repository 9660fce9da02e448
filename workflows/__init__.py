"""Durable verbs: one file per workflow, each of which states its guarantee.

A workflow decides and never touches the world: it imports ``holdfast.model``,
``holdfast.planning``, ``holdfast.errors`` and ``activities.contracts``, nothing else of ours.
Workflow files are re-imported for every run inside Temporal's sandbox; the modules they share
(queues, options, messages, search attributes, undo) are passed through, see
``workers/temporal.py``, and therefore hold no state.
"""
