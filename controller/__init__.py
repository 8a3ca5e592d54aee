"""Model-predictive control of dose and dwell, and the guard that is the only way to the beam.

The controller plans and proposes: `plant`, `problem`, `mpc`, `planning`, `control`, and its shell `controld`. The guard decides and commands:
`limits`, `ledger`, `modes`, `guard`, and its shell `guardd`. Neither imports the other's rules.
"""
