"""A hypervisor in memory and on disk: its guests follow a YAML script (docs/sim.md)."""
