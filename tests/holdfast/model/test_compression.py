"""Compression levels by the names that configuration files use."""

from holdfast.model.compression import Compression


def test_the_names_in_configuration_files_stay() -> None:
    assert {level.value for level in Compression} >= {"none", "lz4", "zstd-1", "zstd-3", "zstd-9"}


def test_only_zstandard_has_a_level() -> None:
    assert {level.value: level.zstd_level for level in Compression} == {
        "none": 0,
        "lz4": 0,
        "zstd-1": 1,
        "zstd-3": 3,
        "zstd-9": 9,
    }
