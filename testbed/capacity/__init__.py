"""What this machine can run, predicted before a run: known limits, measured costs, and a model.

    scenario ─ load ─┐
    probe ── costs ──┴▶ model ─▶ forecast of the verdict ─▶ the nearest scenario that would be VALID

`limits` refuses a scenario without any measurement.  `probe` runs small trials of the scenario and measures the cost of
each kind of process.  `model` predicts the verdict of the whole scenario and the resource that limits it.
"""
