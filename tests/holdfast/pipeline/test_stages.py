"""Figures of the pipe add up."""

from holdfast.pipeline.stages import PipeOptions, StageTimes


def test_seconds_of_stages_are_added_field_by_field() -> None:
    total = StageTimes(source_s=1.0, target_s=0.5)
    total.add(StageTimes(source_s=2.0, digest_s=3.0, encode_s=4.0, commit_wait_s=5.0, throttled_s=6.0))
    expected = StageTimes(source_s=3.0, digest_s=3.0, encode_s=4.0, target_s=0.5, commit_wait_s=5.0, throttled_s=6.0)
    assert total == expected
    fields = StageTimes.__struct_fields__
    total.add(StageTimes(**dict.fromkeys(fields, 1.0)))
    assert [getattr(total, field) - getattr(expected, field) for field in fields] == [1.0] * len(fields)


def test_what_a_killed_process_must_send_again_stays_below_64_mib() -> None:
    # The bound on what is not durable, one unit being packed and one chunk more, for the largest unit.
    options = PipeOptions()
    largest_unit = 4 << 20
    assert options.uncommitted_bytes_max + 2 * largest_unit <= 64 << 20
    assert options.commit_new_bytes < options.uncommitted_bytes_max
