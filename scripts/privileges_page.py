"""Write docs/reference/vsphere-privileges.md from holdfast/providers/vsphere/privileges.py.

Usage: .venv/bin/python -m scripts.privileges_page
"""

from pathlib import Path

from holdfast.providers.vsphere.privileges import LEAST_ROLE, Feature

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "vsphere-privileges.md"

HEAD = """\
# Privileges of a vSphere account

What the account of a vSphere provider may do, no more.
Make one role of the features that are used, and give it to the account, with propagation, on the folders, pools, datastores and networks with the machines that are protected; on a datacenter it reaches them all.
A restore over a machine needs what a restore to a new one does, too, because the disks are made beside it first.
A quiesced snapshot needs no more than any other.

`holdfast doctor vsphere NAME` asks the vCenter which of them the account has, and where not.

This page is generated from `holdfast/providers/vsphere/privileges.py` by `scripts/privileges_page.py`.
"""  # noqa: E501 - one sentence per line


def page() -> str:
    """Return the whole page, one table for each feature."""
    return HEAD + "".join(map(section, Feature))


def section(feature: Feature) -> str:
    """Return the table of one feature."""
    rows = "".join(f"| `{one.name}` | {one.place} | {one.purpose} |\n" for one in LEAST_ROLE if one.feature is feature)
    return f"\n## {feature.value.capitalize()}\n\n| Privilege | On each | To |\n|---|---|---|\n{rows}"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
