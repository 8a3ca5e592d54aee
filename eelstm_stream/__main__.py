"""`python -m eelstm_stream` is `eelstm`."""

from eelstm_stream.cli import main

main()
