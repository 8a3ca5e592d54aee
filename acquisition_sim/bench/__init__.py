"""Benchmarks that fly simulated specimens: subcommands of `eelstm bench`, where the service itself may not know a simulator."""
