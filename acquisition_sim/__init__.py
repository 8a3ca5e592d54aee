"""The simulated instrument: replays recordings, and simulates a specimen."""
