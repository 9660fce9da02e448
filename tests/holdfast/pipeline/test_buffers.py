"""Buffers are used again, and freed blocks stay with the process."""

import platform
import resource
import subprocess
import sys

from holdfast.pipeline.buffers import Buffers, keep_freed_blocks

COUNT_FAULTS = """
import resource
from holdfast.pipeline.buffers import keep_freed_blocks
keep_freed_blocks()
blocks = [bytes(1 << 20) for _ in range(4)]
del blocks
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    blocks = [bytes(1 << 20) for _ in range(4)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_a_buffer_given_back_is_taken_again() -> None:
    buffers = Buffers(100)
    first, second = buffers.take(), buffers.take()
    assert first is not second
    assert len(first) == 100
    buffers.give_back(first)
    assert buffers.take() is first


def test_only_glibc_can_be_told_to_keep_blocks() -> None:
    assert keep_freed_blocks() == (platform.libc_ver()[0] == "glibc")


def test_blocks_of_the_size_of_units_are_not_given_back_to_the_kernel() -> None:
    command = [sys.executable, "-c", COUNT_FAULTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    # Taken anew each time, they would cost a fault for every page.
    pages = 50 * 4 * (1 << 20) // resource.getpagesize()
    assert int(done.stdout) < pages / 20 or not keep_freed_blocks()
