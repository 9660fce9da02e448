"""An answer that is there at once is one like any other."""

from holdfast.pipeline.sink import Answered, Wanted


def test_an_answer_that_is_there_needs_no_waiting() -> None:
    answer = Answered(Wanted([1, 2], 16))
    assert answer.done()
    assert answer.result() == Wanted([1, 2], 16)
