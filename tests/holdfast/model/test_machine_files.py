"""What of a machine's files a restore point can keep."""

import pytest

from holdfast.model.machine_files import (
    FILE_SIZE_MAX,
    FileLeftOut,
    MachineFile,
    MachineFiles,
    is_file_name,
    within_limits,
)


def made(*files: tuple[str, int]) -> MachineFiles:
    return MachineFiles(files=tuple(MachineFile(name=name, content=bytes(size)) for name, size in files))


@pytest.mark.parametrize("name", ["web.vmx", "gölden 2.nvram", "...", "a\\b", "n" * 255, "ü" * 127])
def test_ordinary_names_can_be_kept(name: str) -> None:
    assert is_file_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0b", "a\n", "\x7f", "n" * 256, "ü" * 128, "\ud800"])
def test_names_that_could_lead_elsewhere_or_spoil_a_terminal_cannot(name: str) -> None:
    assert not is_file_name(name)


def test_files_within_the_limits_stay_as_they_are() -> None:
    found = made(("a.vmx", FILE_SIZE_MAX), ("a.nvram", 0))
    assert within_limits(found) == found


def test_what_cannot_be_kept_is_left_out_with_the_reason() -> None:
    found = within_limits(made(("a", 1), ("a", 2), ("b/c", 1), ("large", FILE_SIZE_MAX + 1), ("d", 1)))
    assert [file.name for file in found.files] == ["a", "d"]
    assert found.left_out == (
        FileLeftOut(name="a", reason="another file has the same name"),
        FileLeftOut(name="b/c", reason="its name cannot be kept"),
        FileLeftOut(name="large", reason="it has 1048577 bytes, the most is 1048576"),
    )


def test_the_number_and_the_sum_of_files_are_limited() -> None:
    many = within_limits(made(*((f"f{number}", 1) for number in range(18))))
    assert [file.name for file in many.left_out] == ["f16", "f17"]
    large = within_limits(made(*((f"f{number}", FILE_SIZE_MAX) for number in range(5)), ("small", 0)))
    assert [file.name for file in large.left_out] == ["f4"]
    assert large.files[-1].name == "small"


def test_reasons_of_a_provider_stay() -> None:
    known = FileLeftOut(name="a.nvram", reason="it is locked")
    assert within_limits(MachineFiles(left_out=(known,))).left_out == (known,)
