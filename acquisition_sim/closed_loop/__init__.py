"""Simulated specimens in closed loop, with no wall clock: what control is worth. The loop is the real one but for its sockets."""
