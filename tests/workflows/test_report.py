"""The report: readable, bounded, and without a meaning to Markdown that a name brings along."""

import msgspec
import pytest

from holdfast.model.session import Figures, Outcome, Problem
from workflows.report import (
    BYTES_MAX,
    ROWS_MAX,
    SUMMARY_BYTES_MAX,
    Report,
    Row,
    Table,
    duration_text,
    render,
    size_text,
    summary,
)

MIB = 1 << 20


def a_row(machine: str = "web", outcome: Outcome = Outcome.SUCCESS, detail: str = "") -> Row:
    figures = Figures(
        size_bytes=40 << 30,
        processed_bytes=40 << 30,
        read_bytes=20 * MIB,
        transferred_bytes=10 * MIB,
        stored_bytes=11 * MIB,
        duration_s=2.0,
        source_s=0.5,
        proxy_s=1.6,
        target_s=1.0,
    )
    return Row(machine=machine, disk="disk0", outcome=outcome, state="done", detail=detail, figures=figures)


def a_report(*rows: Row, notes: tuple[str, ...] = (), problem: Problem | None = None) -> str:
    return render(
        Report(title="backup nightly", outcome=Outcome.RUNNING, phase="x", rows=rows, notes=notes, problem=problem)
    )


def table(text: str) -> list[str]:
    """Return the lines of the table of disks."""
    return [line for line in text.split("### ", maxsplit=1)[0].splitlines() if line.startswith("|")]


def spaced(line: str) -> str:
    return " ".join(line.split())


def test_a_disk_is_a_row_with_its_figures() -> None:
    lines = table(a_report(a_row(detail="full: no earlier point")))
    assert spaced(lines[2]) == "| web | disk0 | done | 40 GiB | 20 MiB | 10 MiB | 11 MiB | 2.0:1 |"


def test_the_bottleneck_of_all_disks_is_a_fact_above_the_table() -> None:
    text = a_report(a_row(), a_row("db"))
    assert "- Bottleneck: Proxy (Source 25 %, Proxy 80 %, Target 50 %)" in text
    assert "Bottleneck:" not in a_report(msgspec.structs.replace(a_row(), figures=Figures(size_bytes=MIB)))


def test_the_slowest_disks_say_where_their_time_went() -> None:
    lines = a_report(a_row(), throttled("db", 3.0)).split("### Time")[1].splitlines()
    assert [spaced(line) for line in lines[2:]] == [
        "| Machine | Disk | Took | Rate | Source | Proxy | Target | Throttling |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
        "| db | disk0 | 3 s | | 0 % | 0 % | 0 % | **100 %** |",
        "| web | disk0 | 2 s | 10 MiB/s | 25 % | **80 %** | 50 % | |",
    ]
    assert "### Time" not in a_report(msgspec.structs.replace(a_row(), figures=Figures(size_bytes=MIB)))
    many = a_report(*(throttled(f"m{number}", float(number + 1)) for number in range(30))).split("### Time")[1]
    assert "| m29 |" in many
    assert "| m9 |" not in many
    assert "and 10 more that were faster" in many


def throttled(machine: str, seconds: float) -> Row:
    figures = Figures(size_bytes=MIB, duration_s=seconds, throttled_s=seconds)
    return msgspec.structs.replace(a_row(machine), figures=figures)


def test_a_disk_that_was_not_dealt_with_to_its_end_says_how_far_it_came() -> None:
    row = a_row()
    cut = msgspec.structs.replace(row, figures=msgspec.structs.replace(row.figures, processed_bytes=10 << 30))
    assert "| 10 GiB of 40 GiB |" in spaced(table(a_report(cut))[2])


def test_figures_and_states_stay_on_one_line() -> None:
    row = msgspec.structs.replace(a_row(), state="in the cloud")
    cells = table(a_report(row))[2].strip("| ").split(" | ")
    assert all(" " not in cell for cell in cells)
    assert cells[2:4] == ["\u00a0\u00a0in\u00a0the\u00a0cloud", "\u00a0\u00a040\u00a0GiB"]


def test_a_table_stands_behind_notes_and_only_its_ends_become_several_lines() -> None:
    long = "one of the newest, and of all of them"
    points = Table(
        title="Points",
        headings=("Point", "Day", "Why"),
        rows=(("2 of *c1*", "11-22 we", long), ("1 of c1", "", "out|dated now")),
    )
    report = Report(title="upkeep of web", outcome=Outcome.SUCCESS, phase="", notes=("odd",), tables=(points,))
    assert render(report).partition("- odd\n")[2].splitlines()[1:] == [
        "### Points",
        "",
        "| Point | \u00a0\u00a0Day | \u00a0\u00a0Why |",
        "|---|---|---|",
        f"| 2 of \\*c1\\* | \u00a0\u00a011\u201122\u00a0we | \u00a0\u00a0{long} |",
        "| 1 of c1 |  | \u00a0\u00a0" + r"out\|dated" + "\u00a0now |",
    ]


def test_of_a_long_table_the_first_rows_are_shown_and_the_others_counted() -> None:
    rows = tuple((f"{number} of c1", "w" * 100) for number in range(5 * ROWS_MAX))
    long = Table(title="Points", headings=("Point", "Why"), rows=rows)
    text = render(Report(title="t", outcome=Outcome.SUCCESS, phase="", tables=(long,)))
    assert len(text.encode()) <= BYTES_MAX
    shown = text.count(" of c1 |")
    assert 0 < shown <= ROWS_MAX
    assert text.endswith(f"\n… and {5 * ROWS_MAX - shown} more")


def test_what_is_said_of_disks_stands_below_once_and_trouble_first() -> None:
    rows = [a_row(name, detail="full: no earlier point") for name in ("web", "web", "db")]
    rows.append(a_row("mail", Outcome.FAILED, detail="disk-gone: no disk"))
    _, found, below = a_report(*rows).partition("\n### Disks\n\n")
    assert found
    assert below.partition("\n\n### Time")[0].splitlines() == [
        "- mail (disk0): disk-gone: no disk",
        "- web (disk0, disk0), db (disk0): full: no earlier point",
    ]


def test_of_many_disks_and_texts_some_are_named() -> None:
    text = a_report(*[a_row(f"m{n}", detail="same") for n in range(12)])
    assert "m7 (disk0) and 4 more: same" in text
    text = a_report(*[a_row(detail="same") for n in range(12)])
    assert text.count("disk0, ") == 7
    assert "disk0 and 4 more): same" in text
    text = a_report(*[a_row(detail=f"text {n}") for n in range(25)])
    assert "- … and 5 more" in text


def test_a_disk_that_waits_shows_its_size_only() -> None:
    row = Row(machine="web", disk="d", outcome=Outcome.RUNNING, state="waiting", figures=Figures(size_bytes=MIB))
    assert spaced(table(a_report(row))[2]) == "| web | d | waiting | 1 MiB | | | | |"


def test_the_last_row_adds_everything_up() -> None:
    assert spaced(table(a_report(a_row(), a_row("db")))[-1]) == (
        "| **all** | 2 disks | | 80 GiB | 40 MiB | 20 MiB | 22 MiB | 2.0:1 |"
    )


def test_an_unfinished_session_without_disks_has_no_table() -> None:
    text = a_report()
    assert table(text) == []
    assert text.startswith("**backup nightly** · running · x")


def test_problem_and_hint_follow_the_table() -> None:
    text = a_report(a_row(), problem=Problem(code="repository-full", message="no space", hint="Free space."))
    assert "**repository-full**: no space\n\nFree space." in text


def test_a_problem_without_a_hint_ends_with_its_message() -> None:
    assert a_report(problem=Problem(code="internal", message="odd")).endswith("**internal**: odd")


@pytest.mark.parametrize("name", ["a|b", "a\nb", "*a*", "`a`", "<b>a</b>", "[a](b)", "a_b_", "# a"])
def test_a_name_cannot_break_the_table(name: str) -> None:
    lines = table(a_report(a_row(name)))
    unescaped = lines[2].replace("\\|", "")
    assert unescaped.count("|") == lines[0].count("|")
    assert "<b>" not in lines[2].replace("\\<", "")


def test_a_thousand_disks_fit_and_those_with_trouble_are_among_them() -> None:
    rows = [a_row(f"machine-{n}") for n in range(1000)]
    rows[777] = a_row("the-failed-one", Outcome.FAILED)
    text = a_report(*rows)
    assert len(text.encode()) <= BYTES_MAX
    assert len(table(text)) <= ROWS_MAX + 4
    assert "the-failed-one" in text
    assert "900 more" in spaced(text)
    assert "1000 disks" in spaced(text)


def test_long_words_cannot_exceed_the_limit() -> None:
    rows = [a_row("ä" * 500, detail="ß" * 5000) for _ in range(300)]
    problem = Problem(code="c" * 500, message="m" * 9999, hint="h" * 9999)
    text = a_report(*rows, notes=tuple("ö" * 9999 for _ in range(99)), problem=problem)
    assert len(text.encode()) <= BYTES_MAX
    assert "and 79 more" in text


def test_even_a_monstrous_head_is_cut() -> None:
    facts = tuple((f"{n}", "ü" * 300) for n in range(100))
    text = render(Report(title="t", outcome=Outcome.FAILED, phase="failed", facts=facts))
    assert len(text.encode()) <= BYTES_MAX


@pytest.mark.parametrize(
    "size, text",
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (40 << 30, "40 GiB"),
        (123 * MIB + 5, "123 MiB"),
        (2 << 60, "2048 PiB"),
    ],
)
def test_sizes_are_short(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize("seconds, text", [(0.4, "0 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s"), (7290, "2 h 1 min")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_summary_is_one_line_of_bounded_length() -> None:
    assert summary("web\n db") == "web db"
    long = summary("ä" * 1000)
    assert len(long.encode()) <= SUMMARY_BYTES_MAX
    assert long.endswith("ä…")
