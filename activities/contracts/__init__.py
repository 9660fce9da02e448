"""What workflows may ask of the world: one request type, one reply type and one stub per activity.

A stub's body never runs; `activities.binding.implements` binds the method that serves it. Fields are only ever added,
with defaults, because old histories must load.
"""
