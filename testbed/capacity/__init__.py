"""What this machine carries, known before a run: limits that can be looked up, costs that are measured, a model.

    scenario ─ load ─┐
    probe ── costs ──┴▶ model ─▶ forecast of the verdict ─▶ the nearest scenario that would be VALID

`limits` knows what a scenario is refused for without any measurement; `probe` runs the scenario in small and measures
what each kind of process costs; `model` says what the verdict of the whole will be, and by which resource.
"""
