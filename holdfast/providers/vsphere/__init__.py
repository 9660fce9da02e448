"""VMware vSphere: the only room that imports pyVmomi."""
