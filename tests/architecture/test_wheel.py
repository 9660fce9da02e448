"""What users install: a wheel with our packages and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.architecture import tree


def test_the_wheel_holds_exactly_our_packages(tmp_path: Path) -> None:
    # The build backend runs in this environment: no network, nothing installed.
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=tree.ROOT, check=True, capture_output=True, timeout=60)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split("/")[0] for name in archive.namelist()}
    packages = {name for name in names if not name.endswith(".dist-info")}
    assert packages == {name for name in tree.PACKAGES if (tree.ROOT / name).is_dir()}
