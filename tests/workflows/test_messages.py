"""Messages add up where they say so."""

from workflows.messages import Retained


def test_what_retention_did_adds_up_field_by_field() -> None:
    total = Retained(kept=1, merged=2, deleted=3, held=4, moved_bytes=5, freed_bytes=6) + Retained(kept=10, held=1)
    assert total == Retained(kept=11, merged=2, deleted=3, held=5, moved_bytes=5, freed_bytes=6)
