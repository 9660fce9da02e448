"""How long datastores take to answer, measured by their hosts.

Each host measures each of its datastores every 20 seconds. One question to the vCenter brings the newest figures of all
hosts; the worst of a datastore counts, of reads and of writes. A process asks no more often than the rules say.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from pyVmomi import vim

from holdfast.clock import Clock
from holdfast.errors import HoldfastError, ProviderUnavailable
from holdfast.model.latency import DatastoreLatency
from holdfast.planning.latency import LatencyRules
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.properties import read, walk

COUNTERS: Final = ("datastore.totalReadLatency.average", "datastore.totalWriteLatency.average")
"""Milliseconds, of one datastore at one host."""
_INTERVAL_S: Final = 20
"""How often hosts measure, by which a vCenter knows that their own figures are wanted and no history."""
_MAP_AGE_MAX_S: Final = 600.0
"""Hosts and datastores that were added are seen after so long."""
_REST: Final = 9
"""After a question that failed, so many times as long as it took nobody asks again."""
_WHAT: Final = "measuring the latency of datastores"


class _Map(msgspec.Struct, frozen=True, kw_only=True):
    """Who measures, and how datastores are called there."""

    hosts: tuple[Any, ...]
    names: dict[str, str]
    """Names of datastores that are one piece of storage, by what hosts call them."""
    uncontrolled: frozenset[str]
    """Names of datastores whose latency says nothing of a single disk."""
    drawn_s: float


class _Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement of all datastores."""

    number: int = 0
    latencies_ms: dict[str, float] = {}
    """By the datastore's name; of several that have one name, the worst."""
    problem: str = ""
    good_until_s: float = float("-inf")


class LatencyMeter:
    """Measures the datastores of a vCenter or host. Any thread may ask."""

    def __init__(self, connection: Connection, clock: Clock, rules: LatencyRules) -> None:
        self._connection = connection
        self._clock = clock
        self._rules = rules
        self._lock = threading.Lock()
        self._counters: tuple[int, ...] = ()
        self._map: _Map | None = None
        self._is_map_stale = False
        self._sample = _Sample()

    def of(self, datastores: Iterable[str]) -> list[DatastoreLatency]:
        """Return the latencies of those datastores that have limits; asks nobody when none has."""
        limits = {name: self._rules.of(name) for name in dict.fromkeys(datastores)}
        limited = {name: found for name, found in limits.items() if not found.is_off}
        if not limited:
            return []
        sample, uncontrolled = self._measured(min(found.sample_s for found in limited.values()))
        return [
            DatastoreLatency(
                datastore=name,
                limits=found,
                sample=sample.number,
                latency_ms=sample.latencies_ms.get(name),
                why_unknown=sample.problem or f"no host tells the latency of datastore {name}",
            )
            for name, found in limited.items()
            if name not in uncontrolled
        ]

    def _measured(self, age_max_s: float) -> tuple[_Sample, frozenset[str]]:
        """Return the latest measurement, a new one if it is too old, and which datastores it does not speak of."""
        # While another thread measures, the figures of before are good enough; the first ones are waited for.
        if self._lock.acquire(blocking=not self._sample.number):
            try:
                now_s = self._clock.monotonic_s()
                if now_s >= self._sample.good_until_s:
                    self._sample = self._new_sample(now_s, age_max_s)
            finally:
                self._lock.release()
        return self._sample, frozenset() if self._map is None else self._map.uncontrolled

    def _new_sample(self, now_s: float, age_max_s: float) -> _Sample:
        number = self._sample.number + 1
        try:
            return _Sample(number=number, latencies_ms=self._measure(now_s), good_until_s=now_s + age_max_s)
        except HoldfastError as error:
            self._is_map_stale = True  # a host that is gone may be the reason
            # Copies wait while they ask: a vCenter that does not answer shall not cost them most of their time.
            failed_s = self._clock.monotonic_s()
            rest_s = max(age_max_s, _REST * (failed_s - now_s))
            return _Sample(number=number, problem=error.message, good_until_s=failed_s + rest_s)

    def _measure(self, now_s: float) -> dict[str, float]:
        if not self._counters:
            self._counters = self._find_counters()
        if self._map is None or self._is_map_stale or now_s - self._map.drawn_s >= _MAP_AGE_MAX_S:
            self._map, self._is_map_stale = self._draw_map(now_s), False
        metrics = [vim.PerformanceManager.MetricId(counterId=key, instance="*") for key in self._counters]
        questions = [
            vim.PerformanceManager.QuerySpec(
                entity=host, metricId=metrics, intervalId=_INTERVAL_S, maxSample=1, format="normal"
            )
            for host in self._map.hosts
        ]
        if not questions:
            return {}
        performance = self._connection.content.perfManager
        answers = self._connection.call(_WHAT, lambda: performance.QueryPerf(querySpec=questions))
        series = ((one.id.instance, one.value) for answer in answers for one in answer.value)
        return worst_by_name(series, self._map.names)

    def _find_counters(self) -> tuple[int, ...]:
        found = read(self._connection, self._connection.content.perfManager, "perfCounter").get("perfCounter") or ()
        keys = {f"{one.groupInfo.key}.{one.nameInfo.key}.{one.rollupType}": int(one.key) for one in found}
        missing = [name for name in COUNTERS if name not in keys]
        if missing:
            raise ProviderUnavailable(
                f"{self._connection.endpoint.label}: {_WHAT}: there is no counter {', '.join(missing)}"
            )
        return tuple(keys[name] for name in COUNTERS)

    def _draw_map(self, now_s: float) -> _Map:
        hosts = walk(self._connection, vim.HostSystem, ("runtime.connectionState",))
        stores = [
            (values.get("summary.name", ""), values.get("summary.type", ""), values.get("summary.url", ""))
            for _, values in walk(self._connection, vim.Datastore, ("summary.name", "summary.type", "summary.url"))
        ]
        connected = vim.HostSystem.ConnectionState.connected
        return _Map(
            hosts=tuple(host for host, values in hosts if values.get("runtime.connectionState") == connected),
            names={identity_of(url): name for name, kind, url in stores if is_controlled(kind)},
            uncontrolled=frozenset(name for name, kind, _ in stores if not is_controlled(kind)),
            drawn_s=now_s,
        )


def is_controlled(kind: str) -> bool:
    """Return whether a datastore of a kind is one piece of storage with one latency, which vSAN and vVol are not."""
    return not kind.lower().startswith(("vsan", "vvol"))


def identity_of(url: str) -> str:
    """Return what hosts call a datastore: the last part of its address, ``ds:///vmfs/volumes/5f0e/`` as ``5f0e``."""
    return url.rstrip("/").rpartition("/")[2]


def worst_by_name(series: Iterable[tuple[str, Sequence[int]]], names: Mapping[str, str]) -> dict[str, float]:
    """Return the highest of the newest figures of each datastore that is named; a figure below 0 is none."""
    worst: dict[str, float] = {}
    for identity, figures in series:
        name = names.get(identity)
        if name is not None and figures and figures[-1] >= 0:
            worst[name] = max(float(figures[-1]), worst.get(name, 0.0))
    return worst
