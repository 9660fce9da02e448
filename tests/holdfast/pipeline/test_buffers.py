"""Read buffers are used again."""

from holdfast.pipeline.buffers import Buffers


def test_a_buffer_that_was_given_back_is_taken_again() -> None:
    buffers = Buffers(100)
    one, two = buffers.take(), buffers.take()
    assert one is not two
    assert len(one) == len(two) == 100
    buffers.give_back(one)
    assert buffers.take() is one
