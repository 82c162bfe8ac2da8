"""A network-emulation testbed for clusters of predictive buffers."""

__version__ = "0.1.0"
