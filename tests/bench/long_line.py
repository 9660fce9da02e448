"""Two network namespaces of this host with a long line between them: netem where the kernel has it, else a relay."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from holdfast.testing.images import find_program
from tests.bench.relay import LineShape

NEAR, FAR = "10.77.0.1", "10.77.0.2"
ROOT = Path(__file__).resolve().parents[2]
_MTU = 1500


class LongLine(msgspec.Struct, frozen=True, kw_only=True):
    """The line while it is up: what runs where."""

    near: str
    """Namespace of the dialling side."""
    far: str
    emulation: str

    def on_near(self) -> list[str]:
        """Return what stands before a command that is to run on the dialling side."""
        return [_program("ip"), "netns", "exec", self.near]

    def on_far(self) -> list[str]:
        """Return what stands before a command that is to run on the listening side."""
        return [_program("ip"), "netns", "exec", self.far]


def is_possible() -> bool:
    """Return whether this process may make namespaces and devices."""
    return os.geteuid() == 0 and shutil.which("ip") is not None and Path("/dev/net/tun").exists()


@contextmanager
def long_line(shape: LineShape) -> Iterator[LongLine]:
    """Set a line up between two namespaces of this process' own; take everything away at the end."""
    ends = [f"hf-{os.getpid()}-{side}" for side in ("near", "far")]
    with ExitStack() as stack:
        for name in ends:
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            _ip("-n", name, "link", "set", "lo", "up")
        if _has_netem(ends[0]):
            _join(ends, shape)
            yield LongLine(near=ends[0], far=ends[1], emulation="netem")
            return
        words = [sys.executable, "-m", "tests.bench.relay", msgspec.json.encode(shape).decode(), *ends, NEAR, FAR]
        relay = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        stack.callback(relay.communicate)  # the end of its input is its end
        assert relay.stdout is not None
        assert relay.stdout.readline() == b"up\n", "the relay could not make its devices"
        yield LongLine(near=ends[0], far=ends[1], emulation="a relay of packets")


def _has_netem(namespace: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        words = [_program("tc"), "-n", namespace, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
        if subprocess.run(words, capture_output=True, check=False).returncode == 0:
            subprocess.run([*words[:4], "del", "dev", "lo", "root"], check=True)
            return True
    return False


def _join(ends: list[str], shape: LineShape) -> None:
    """Join the namespaces by a pair of devices that delay, lose and limit."""
    _ip("link", "add", "hf0", "netns", ends[0], "type", "veth", "peer", "name", "hf1", "netns", ends[1])
    packets = int(shape.bits_per_s / 8 / _MTU * (shape.round_trip_s / 2 + shape.queue_s))
    for side, (name, address) in enumerate(zip(ends, (NEAR, FAR), strict=True)):
        device = f"hf{side}"
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
        _ip("-n", name, "link", "set", device, "up")
        rules = ["delay", f"{shape.round_trip_s * 500:g}ms", "rate", f"{shape.bits_per_s:.0f}bit"]
        rules += ["limit", str(packets), "loss", f"{shape.loss * 100:g}%"]
        tc = [_program("tc"), "-n", name, "qdisc", "add", "dev", device, "root", "netem"]
        subprocess.run([*tc, *rules], check=True)


def _ip(*words: str) -> None:
    subprocess.run([_program("ip"), *words], check=True)


def _program(name: str) -> str:
    return str(find_program(name))
