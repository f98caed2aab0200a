"""Where episodes come from: batched environments of our own, and every Gymnasium environment.

`make("CartPole-v1")` gives a Task, `task.make(64)` a batch of it, `rollout(task, policy, seeds=...)` episodes.
"""

from __future__ import annotations
