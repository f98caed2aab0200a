"""MO-Gymnasium: its reward vectors as our terms, and the terms of our rewards as its vectors.

Its convention is a plain environment whose `step` gives an array, and whose `unwrapped.reward_space` says which; so
nothing here imports the package.
"""

from __future__ import annotations

from plaudit.adapters.mo.named import NamedTerms, Objective, objectives
from plaudit.adapters.mo.vector import TermsEnv

__all__ = ["NamedTerms", "Objective", "TermsEnv", "objectives"]
