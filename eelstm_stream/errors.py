"""The errors that a user meets: each is one sentence saying what was found and what to do, with its exit code."""


class EelstmError(Exception):
    """An expected failure. The command line prints its one sentence, without a traceback, and exits with `exit_code`."""

    exit_code = 1


class UsageError(EelstmError):
    """Bad arguments or configuration, found before any socket is bound."""

    exit_code = 2


class UnusableInputError(EelstmError):
    """The recording or the model can't be used."""

    exit_code = 3
