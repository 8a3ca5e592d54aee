"""Tests of eelstm-stream."""
