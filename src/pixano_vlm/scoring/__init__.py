"""How often answers are right, and how far their confidence tells: outputs against a truth.

Reads what a run has left behind and a truth; knows no model, and changes nothing that it reads. The statistics are
scipy's and scikit-learn's, the edit distance rapidfuzz's (extra `score`).
"""

from pixano_vlm.scoring.score import ScoreOptions, score_outputs

__all__ = ["ScoreOptions", "score_outputs"]
