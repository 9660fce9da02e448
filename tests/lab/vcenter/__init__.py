"""The lab vCenter, spoken to by unmodified pyVmomi."""
