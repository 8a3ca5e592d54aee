"""Model-predictive control of dose and dwell behind a guard. Holds no code yet: the wire already carries its messages."""
