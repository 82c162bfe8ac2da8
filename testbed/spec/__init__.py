"""The scenario model, the network description and their loading."""
