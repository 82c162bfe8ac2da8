"""Decisions without I/O: events and the time go in, actions come out.  See `base.Policy`."""
