"""A page to look at: the outputs of one run, or of two side by side, as HTML that opens from disk.

Reads what a run has left behind: its outputs, the run file beside them, the manifest and the images that these
name. Knows no model, and never changes what it reads.
"""

from pixano_vlm.report.judging import TruthOptions
from pixano_vlm.report.report import ReportOptions, Written, write_report

__all__ = ["ReportOptions", "TruthOptions", "Written", "write_report"]
