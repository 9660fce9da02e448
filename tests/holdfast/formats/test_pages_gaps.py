"""How far a piece table says nothing."""

from holdfast.formats.pages import PieceRuns


def test_a_gap_goes_to_the_next_run_or_to_where_it_is_cut() -> None:
    runs = PieceRuns()
    assert runs.gap_from(3, 9) == 6
    runs.append(5, 0, 2)
    runs.append(20, 2)
    assert [runs.gap_from(*pair) for pair in ((0, 4), (0, 9), (7, 30), (21, 30))] == [4, 5, 13, 9]
