"""The report of an evaluation, as a page for a person: the paper's figures made again, with the honest ones beside them."""

from eelstm_stream.training.report.page import refuse_report, render, write_report

__all__ = ["refuse_report", "render", "write_report"]
