"""What a process has used so far."""

import resource
from pathlib import Path

from tests.bench.child import Result


def add_usage(result: Result) -> None:
    """Note processor time and peak memory of this process in its result."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result.cpu_s = usage.ru_utime + usage.ru_stime
    result.peak_mib = peak_kib("self") / 1024


def peak_kib(process: int | str) -> int:
    """Return the most memory that a living process has held; 0 when it is gone. ``ru_maxrss`` counts its parent's."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peaks[0]) if peaks else 0
