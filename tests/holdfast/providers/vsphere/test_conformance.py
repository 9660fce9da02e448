"""The vSphere provider keeps the contract of all providers."""

import pytest

from holdfast.testing.providers import ProviderConformance

pytestmark = [pytest.mark.vsphere, pytest.mark.tools("nbdkit")]


class TestVSphereProvider(ProviderConformance):
    pass
