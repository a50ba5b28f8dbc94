"""vSphere's dialect, spoken to a vCenter or to a single ESXi host by pyvmomi."""
