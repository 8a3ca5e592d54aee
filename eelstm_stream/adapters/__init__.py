"""Instruments that we did not write, put on the wire: one file each, and what they share."""
