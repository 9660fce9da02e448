"""Proxies are ranked by what they reach, and everyone that is passed over is told why."""

from holdfast.model.ids import DiskKey
from holdfast.model.placement import DiskWay, ProxyFacts
from holdfast.model.plan import TransportMode
from holdfast.planning.placement import rank_proxies

DIRECT, HOT_ADD, NETWORK = TransportMode.DIRECT, TransportMode.HOT_ADD, TransportMode.NETWORK


def proxy(name: str, *modes: TransportMode | None, problem: str = "") -> ProxyFacts:
    ways = tuple(
        DiskWay(disk=DiskKey(f"disk{number}"), mode=mode, reason="" if mode else "it is locked")
        for number, mode in enumerate(modes)
    )
    return ProxyFacts(name=name, tasks=2, problem=problem, ways=ways)


def names(*facts: ProxyFacts, preferred: tuple[str, ...] = ()) -> list[str]:
    return [candidate.name for candidate in rank_proxies(facts, preferred).candidates]


def test_the_best_way_goes_first_and_of_equals_the_order_stays() -> None:
    assert names(proxy("a", NETWORK), proxy("b", HOT_ADD), proxy("c", NETWORK), proxy("d", DIRECT)) == list("dbac")


def test_the_disk_reached_worst_decides() -> None:
    assert names(proxy("a", DIRECT, NETWORK), proxy("b", HOT_ADD, HOT_ADD)) == ["b", "a"]


def test_a_preference_goes_before_the_way_and_is_no_ban() -> None:
    found = rank_proxies([proxy("a", DIRECT), proxy("b", NETWORK)], ["b", "gone"])
    assert [(one.name, one.reason) for one in found.candidates] == [
        ("b", "network; close to the repository"),
        ("a", "direct"),
    ]


def test_who_cannot_is_passed_over_with_the_reason() -> None:
    found = rank_proxies([proxy("a", problem="nobody answers"), proxy("b", DIRECT, None), proxy("c", DIRECT, NETWORK)])
    assert [(one.name, one.rank, one.reason) for one in found.candidates] == [("c", 2, "direct and network")]
    assert found.passed_over == ("a: nobody answers", "b: no way to disk disk1: it is locked")


def test_without_a_machine_everyone_who_answers_can() -> None:
    found = rank_proxies([proxy("a"), proxy("b")])
    assert [(one.name, one.rank, one.reason) for one in found.candidates] == [("a", 0, ""), ("b", 0, "")]
