"""Which proxy does the work on a machine: facts in, a ranking with its reasons out."""

from collections.abc import Sequence
from typing import Final

from holdfast.model.placement import Candidate, DiskWay, Placement, ProxyFacts
from holdfast.model.plan import TransportMode

_MODES: Final = tuple(TransportMode)


def rank_proxies(facts: Sequence[ProxyFacts], preferred: Sequence[str] = ()) -> Placement:
    """Return the proxies that can do the work: preferred ones first, then by the way to the disk reached worst.

    A preference is no ban: others follow behind. Of equals the order stays; how busy they are is looked at when a slot
    is given.
    """
    candidates: list[Candidate] = []
    passed_over: list[str] = []
    for proxy in facts:
        problem = proxy.problem or _unreached(proxy.ways)
        if problem:
            passed_over.append(f"{proxy.name}: {problem}")
            continue
        is_preferred = proxy.name in preferred
        candidates.append(
            Candidate(
                name=proxy.name,
                tasks=proxy.tasks,
                rank=max((_rank(way) for way in proxy.ways), default=0),
                is_preferred=is_preferred,
                reason="; ".join(filter(None, (_words(proxy.ways), "close to the repository" if is_preferred else ""))),
            )
        )
    candidates.sort(key=lambda candidate: (not candidate.is_preferred, candidate.rank))
    return Placement(candidates=tuple(candidates), passed_over=tuple(passed_over))


def _rank(way: DiskWay) -> int:
    assert way.mode is not None, "a disk that is not reached rules its proxy out"
    return _MODES.index(way.mode)


def _unreached(ways: Sequence[DiskWay]) -> str:
    return "; ".join(f"no way to disk {way.disk}: {way.reason}" for way in ways if way.mode is None)


def _words(ways: Sequence[DiskWay]) -> str:
    """Return the modes in words, each once: ``direct``, ``direct and network``."""
    return " and ".join(dict.fromkeys(way.mode.value for way in ways if way.mode is not None))
