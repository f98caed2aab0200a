"""Language models as policies, and the loops that align them with a reward."""

from __future__ import annotations

from plaudit.optimize.align.align import AlignResult, align, measure
from plaudit.optimize.align.best_of import BestOf, BestOfCurve, best_of_curve, best_of_kl, best_of_n, over_optimisation
from plaudit.optimize.align.causal import CausalPolicy
from plaudit.optimize.align.config import AlignConfig
from plaudit.optimize.align.dpo import Pairs, dpo_loss, pairs_of_texts
from plaudit.optimize.align.given import Asked, Given, given_pairs, read_asked, read_given, read_prompts
from plaudit.optimize.align.kto import Judged, kto_loss, mismatched, reference_point
from plaudit.optimize.align.mining import Mined, mine_pairs, mined_from
from plaudit.optimize.align.policy import Policy, imitate
from plaudit.optimize.align.small import SmallPolicy
from plaudit.optimize.align.tables import TablePolicy, TableReward, tilted
from plaudit.optimize.align.trees import chains, grow_trees

__all__ = ["AlignConfig", "AlignResult", "Asked", "BestOf", "BestOfCurve", "CausalPolicy", "Given", "Judged", "Mined",
           "Pairs", "Policy", "SmallPolicy", "TablePolicy", "TableReward", "align", "best_of_curve", "best_of_kl",
           "best_of_n", "chains", "dpo_loss", "given_pairs", "grow_trees", "imitate", "kto_loss", "measure",
           "mine_pairs", "mined_from", "mismatched", "over_optimisation", "pairs_of_texts", "read_asked", "read_given",
           "read_prompts", "reference_point", "tilted"]
