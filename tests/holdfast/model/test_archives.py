"""An archive is known by its folder alone."""

from holdfast.model.archives import is_archive


def test_an_archive_is_known_by_its_folder_and_not_by_that_of_its_machine() -> None:
    assert is_archive("machines/web-1a2b3c4d/archive-5e6f7a8b")
    assert is_archive("archive-5e6f7a8b")
    assert not is_archive("machines/archive-web-1a2b3c4d/000001-5e6f7a8b")
