"""Decisions without I/O: events and the time are the inputs, actions the outputs.  See `base.Policy`."""
