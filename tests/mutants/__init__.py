"""The guard's code, broken on purpose: each check in turn, and a test must notice each time.

`python -m tests.mutants` (or `make mutants`) runs it. `operators.py` says what is broken and how, `graft.py` puts a broken piece into a
running process, `trial.py` runs the tests on it, and `equivalent.toml` lists what can be changed without changing what the guard does.
"""
