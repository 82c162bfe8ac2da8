"""The emulated engine: real namespaces, real switch, real XDP, real time."""
