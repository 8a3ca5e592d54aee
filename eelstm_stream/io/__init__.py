"""Shells around the outside world: clock, sockets, ONNX session, recordings, configuration, processes."""
