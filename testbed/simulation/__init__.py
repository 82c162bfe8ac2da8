"""The simulated engine: the same scenario, plan and policies in virtual time.  See `engine.simulate`."""
