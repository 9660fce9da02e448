"""Whatever the line does, every message arrives once and in order, and nothing that arrived is sent again."""

import pytest

from tests.holdfast.formats.mover.simulation import Simulation, Weather

CALM = Weather()
WEATHERS = {
    "calm": CALM,
    "cuts": Weather(cut=0.004, refuse=0.2),
    "stalls": Weather(stall=0.01),
    "flips": Weather(flip=0.01),
    "duplicates": Weather(duplicate=0.02),
    "storm": Weather(cut=0.003, stall=0.005, flip=0.005, duplicate=0.01, refuse=0.3),
}


@pytest.mark.parametrize("run", range(4))
@pytest.mark.parametrize("name", WEATHERS)
def test_every_message_arrives_once_and_in_order(name: str, run: int, seed: int) -> None:
    counts = ((200, 20), (30, 150), (120, 120))[run % 3]
    simulation = Simulation(seed + run, WEATHERS[name], counts)
    simulation.run()
    for party, other in (simulation.parties, simulation.parties[::-1]):
        sent, got = party.link.counters, other.link.counters
        assert got.frames_received == len(other.expected)
        assert sent.frames_sent == len(other.expected) + sent.resent_frames
        if not WEATHERS[name].duplicate:
            # A frame that is sent again and did not arrive before is no duplicate: what was resent was lost or damaged.
            assert got.duplicates == 0
        if name in {"calm", "stalls"}:
            assert sent.resent_bytes == 0 or got.connections_lost
        if name == "calm":
            assert got.connections_lost == sent.nacks_sent == 0
