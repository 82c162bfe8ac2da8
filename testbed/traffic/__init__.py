"""From a scenario to a packet plan: who sends which packet when, the same on every machine."""
