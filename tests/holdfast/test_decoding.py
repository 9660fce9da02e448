"""Types are learnt by one thread at a time, and known to all from then on."""

import subprocess
import sys
from threading import Barrier, Thread

import msgspec
import pytest

from holdfast.decoding import converted, decoder_of

# Each round asks for a new type from sixteen threads at once; without the lock the process dies in the first rounds.
STORM = """
import sys, threading
import msgspec
from holdfast.decoding import converted, decoder_of
sys.setswitchinterval(1e-6)
names = [f"field{number}" for number in range(20)]
data = msgspec.json.encode(dict.fromkeys(names, 1))
for number in range(60):
    kind = msgspec.defstruct(f"Type{number}", [(name, "int | None") for name in names])
    start = threading.Barrier(16)
    def meet():
        start.wait()
        assert decoder_of(kind).decode(data) == converted(msgspec.json.decode(data), kind)
    threads = [threading.Thread(target=meet) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


class Pair(msgspec.Struct, frozen=True):
    left: int
    right: str = "r"


def test_a_type_has_one_decoder_whoever_asks() -> None:
    found: list[object] = []
    start = Barrier(8)

    def ask() -> None:
        start.wait()
        found.append(decoder_of(Pair))

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert {id(one) for one in found} == {id(decoder_of(Pair))}


def test_values_become_what_they_should_be() -> None:
    assert decoder_of(list[Pair]).decode(b'[{"left": 1}]') == [Pair(1)]
    assert converted({"left": 2, "right": "x"}, Pair) == Pair(2, "x")
    with pytest.raises(msgspec.ValidationError):
        converted({"left": "2"}, Pair)


def test_threads_that_meet_a_new_type_at_once_survive() -> None:
    ended = subprocess.run([sys.executable, "-c", STORM], capture_output=True, text=True, timeout=100, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
