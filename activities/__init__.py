"""The Temporal face of the engine.

``contracts`` holds what workflows know of an activity: request, reply and a typed stub. Every other
module holds the implementation over ``holdfast``: methods bound to their contract by
``binding.implements``, with errors, heartbeats and cancellation as ``boundary`` defines them.
"""
