"""The demonstration: real disks, real servers, real processes, and two deaths in the middle.

It runs the same commands a user would, in processes of their own, in a folder of its own.
"""
