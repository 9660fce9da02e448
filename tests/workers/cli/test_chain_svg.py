"""The vector picture of chains is well-formed, says everything in words too, and survives names from elsewhere."""

import xml.etree.ElementTree as ET

import msgspec

from holdfast.model.archives import Archive
from tests.workers.cli.test_chain_text import MIB, WHEN, forward, point
from workers.cli.chain_svg import chain_svg

NAMESPACE = "{http://www.w3.org/2000/svg}"


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own text


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [found for found in root.iter() if name in found.get("class", "").split()]


def test_each_point_has_a_box_and_a_curve_to_the_one_it_needs() -> None:
    root = parsed(chain_svg([forward()]))
    groups = root.findall(f"{NAMESPACE}g")
    assert len(groups) == 3
    titles = [group.findtext(f"{NAMESPACE}title") or "" for group in groups]
    assert titles[1].startswith("point 2, increment, web [1]; ")
    assert "1.0 MiB changed, 1.0 MiB stored" in titles[1]
    heights = [int(group.findall(f"{NAMESPACE}rect")[1].get("height") or 0) for group in groups]
    assert heights == [120, 60, 4]
    assert len(of_class(root, "curve")) == 2 * 2


def test_marks_locks_and_states_are_drawn() -> None:
    full, second, third = forward().files
    kept = msgspec.structs.replace(point(1, 4 * MIB), marks=("weekly", "yearly"), locked_until=WHEN)
    files = (
        msgspec.structs.replace(full, points=(kept,)),
        msgspec.structs.replace(second, points=(msgspec.structs.replace(second.points[0], trouble="gone", needs=77),)),
        msgspec.structs.replace(third, kind="?", points=(msgspec.structs.replace(third.points[0], is_complete=False),)),
    )
    view = msgspec.structs.replace(forward(), files=files, troubles=("x" * 200,))
    root = parsed(chain_svg([view]))
    assert len(of_class(root, "mark")) == 2
    assert len(of_class(root, "lock")) == 2
    assert len(of_class(root, "broken")) == 2  # one in the legend
    assert len(of_class(root, "writing")) == 1
    texts = [found.text or "" for found in of_class(root, "bad")]
    assert texts[0].endswith("…")
    assert texts[1] == "point 2: gone"


def test_quick_backups_and_archives_have_a_letter_of_their_own() -> None:
    full, second, third = forward().files
    quick = msgspec.structs.replace(second.points[0], is_quick=True, marks=("weekly",))
    archive = msgspec.structs.replace(third.points[0], archive=Archive())
    files = (
        full,
        msgspec.structs.replace(second, points=(quick,)),
        msgspec.structs.replace(third, points=(archive,)),
    )
    root = parsed(chain_svg([msgspec.structs.replace(forward(), files=files)]))
    assert len(of_class(root, "mark")) == 3
    letters = [text for found in of_class(root, "middle") if len(text := found.text or "") == 1 and text.isalpha()]
    assert letters == ["W", "Q", "A"]


def test_a_problem_of_a_file_is_told_once() -> None:
    second = forward().files[1]
    gone = msgspec.structs.replace(
        second, trouble="gone", points=(msgspec.structs.replace(second.points[0], trouble="gone"),)
    )
    root = parsed(chain_svg([msgspec.structs.replace(forward(), files=(gone,))]))
    assert [found.text for found in of_class(root, "bad")] == ["00000002-increment.hfc: gone"]


def test_several_chains_stand_below_each_other_and_none_is_a_picture_too() -> None:
    alone, both = (parsed(chain_svg(views)) for views in ([forward()], [forward(), forward()]))
    assert int(both.get("height") or 0) > int(alone.get("height") or 0)
    assert parsed(chain_svg([])).findall(f"{NAMESPACE}g") == []


def test_a_chain_without_points_is_a_title() -> None:
    root = parsed(chain_svg([msgspec.structs.replace(forward(), files=())]))
    assert of_class(root, "title")[0].text == "no machine"


def test_a_name_cannot_break_out_of_the_picture() -> None:
    wicked = '"/><script>alert(1)</script>\x00\x1b'
    files = (msgspec.structs.replace(forward().files[0], points=(point(1, MIB, machine=wicked),)),)
    root = parsed(chain_svg([msgspec.structs.replace(forward(), name=wicked, files=files)]))
    assert root.findall(f".//{NAMESPACE}script") == []
    assert of_class(root, "title")[0].text == wicked[:-2] + "\N{REPLACEMENT CHARACTER}" * 2


def test_many_points_make_it_wider() -> None:
    files = tuple(msgspec.structs.replace(forward().files[0], points=(point(n, n),)) for n in range(1, 40))
    assert int(parsed(chain_svg([msgspec.structs.replace(forward(), files=files)])).get("width") or 0) > 39 * 70
