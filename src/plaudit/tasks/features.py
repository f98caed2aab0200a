"""What the letters on a grid world's map mean: each feature is a rule over the whole table of moves at once.

A feature adds discrete flags to the state, reads and writes the `Moment` (every state with every action, as
arrays [N]), and says which states end the episode. So a world's dynamics are a finite table from the start:
there is no second, tabular, description that could differ from the simulated one.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from plaudit.core.errors import BadInput


@dataclass(kw_only=True)
class Place:
    """N states: where the agent is, and every flag's value. Arrays [N]."""

    cell: np.ndarray
    flags: dict[str, np.ndarray]
    number: Mapping[str, np.ndarray]
    """By letter, for each cell [cells]: its number among the cells of that letter, or -1."""

    def at(self, letter: str) -> np.ndarray:
        """Where the agent stands on this letter, [N] bool."""
        return self.which(letter) >= 0

    def which(self, letter: str) -> np.ndarray:
        """On which of this letter's cells the agent stands, -1 for none, [N]."""
        return self.number[letter][self.cell] if letter in self.number else np.full(len(self.cell), -1)

    def all_set(self, letter: str) -> np.ndarray:
        """Where all flags of a letter's feature are set ([N]; True where it has none)."""
        own = [value > 0 for name, value in self.flags.items() if name.split("_")[0] == letter]
        return np.logical_and.reduce(own) if own else np.ones(len(self.cell), dtype=bool)


@dataclass(kw_only=True)
class Moment(Place):
    """N pairs of a state and an action, in the middle of being decided: features write into it."""

    before: np.ndarray
    """The cell that the agent comes from; `cell` is where it ends."""
    action: np.ndarray
    """The name of the action, [N] of str."""
    reward: np.ndarray
    success: np.ndarray
    events: dict[str, np.ndarray] = field(default_factory=dict)

    def entered(self, letter: str) -> np.ndarray:
        """Where the agent has just stepped onto this letter from another cell."""
        return self.at(letter) & (self.cell != self.before)

    def happened(self, event: str, where: np.ndarray, *, pays: float = 0.0) -> None:
        """Notes an event and pays for it."""
        self.events[event] = self.events.get(event, np.zeros(len(self.cell), dtype=bool)) | where
        self.reward += pays * where


@dataclass(frozen=True, kw_only=True)
class Feature(ABC):
    """One meaning of one letter. Subclass it for a world of your own; everything is vectorised NumPy.

    Flags that a feature declares begin with its letter, so that two features never share one.
    """

    letter: str

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the actions it adds to the moves."""
        return ()

    def flags(self, cells: int) -> dict[str, int]:
        """Its flags and how many values each has (all begin at 0); `cells` is how often the letter stands."""
        return {}

    def steer(self, moment: Moment) -> None:  # noqa: B027  (a feature overrides what it needs)
        """Changes where the agent ends; done for all features before any of them applies."""

    def apply(self, moment: Moment) -> None:  # noqa: B027
        """What happens when the agent has moved: changes flags, pays, notes events and success."""

    def ends(self, place: Place) -> np.ndarray | None:
        """The states in which the episode has ended, [N] bool."""
        return None

    def measures(self, place: Place) -> dict[str, np.ndarray]:
        """Numbers about the state [N] that go into `info`."""
        return {}

    def lit(self, flags: Mapping[str, int], i: int) -> bool:
        """Whether the i-th cell of the letter is drawn as still active."""
        return True


@dataclass(frozen=True, kw_only=True)
class Goal(Feature):
    """Entering it is success (event `goal`), if what it requires is complete.

    Args:
        reward: paid on arrival.
        requires: letters whose flags must all be set first, such as "C" for all checkpoints.
        stops: the episode ends there; otherwise it is a line to be crossed again and again.
        resets: letters whose flags are cleared on arrival: the next lap begins.
    """

    letter: str = "G"
    reward: float = 1.0
    requires: str = ""
    stops: bool = True
    resets: str = ""

    def __post_init__(self) -> None:
        if self.stops and self.resets:
            raise BadInput("Goal.resets", expected="nothing to reset where the episode ends", received=self.resets,
                           fix="pass stops=False")

    def apply(self, moment: Moment) -> None:
        reached = moment.entered(self.letter) & self._ready(moment)
        moment.happened("goal", reached, pays=self.reward)
        moment.success |= reached
        for name, value in moment.flags.items():
            if name.split("_")[0] in tuple(self.resets):
                value[reached] = 0

    def ends(self, place: Place) -> np.ndarray | None:
        return place.at(self.letter) & self._ready(place) if self.stops else None

    def _ready(self, place: Place) -> np.ndarray:
        return np.logical_and.reduce([place.all_set(letter) for letter in self.requires]) if self.requires else np.ones(
            len(place.cell), dtype=bool)


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Feature):
    """Pays when it is entered (event `checkpoint`), and then again once it is armed again.

    Args:
        reward: paid each time.
        rearm: `never` (pays once, or once a lap with `Goal(resets="C")`), `always` (each entry pays), `others`
            (entering another checkpoint arms it), or a number of steps after which it is armed again.
    """

    letter: str = "C"
    reward: float = 1.0
    rearm: Literal["never", "always", "others"] | int = "never"

    def __post_init__(self) -> None:
        if not (self.rearm in ("never", "always", "others") or isinstance(self.rearm, int) and self.rearm > 0):
            raise BadInput("Checkpoint.rearm", expected="never, always, others, or a positive number of steps",
                           received=self.rearm)

    def flags(self, cells: int) -> dict[str, int]:
        if self.rearm == "always":
            return {}
        if self.rearm == "others":
            return {f"{self.letter}_last": cells + 1}
        values = self.rearm + 1 if isinstance(self.rearm, int) else 2
        return {f"{self.letter}_{i}": values for i in range(cells)}

    def apply(self, moment: Moment) -> None:
        which, entered = moment.which(self.letter), moment.entered(self.letter)
        if self.rearm == "always":
            moment.happened("checkpoint", entered, pays=self.reward)
        elif self.rearm == "others":
            last = moment.flags[f"{self.letter}_last"]
            hit = entered & (last != which + 1)
            moment.happened("checkpoint", hit, pays=self.reward)
            last[hit] = which[hit] + 1
        else:
            for i in range(int(moment.number[self.letter].max()) + 1):
                flag = moment.flags[f"{self.letter}_{i}"]
                if isinstance(self.rearm, int):
                    flag[flag > 0] -= 1
                hit = entered & (which == i) & (flag == 0)
                moment.happened("checkpoint", hit, pays=self.reward)
                flag[hit] = self.rearm if isinstance(self.rearm, int) else 1

    def lit(self, flags: Mapping[str, int], i: int) -> bool:
        return flags.get(f"{self.letter}_last", 0) != i + 1 and not flags.get(f"{self.letter}_{i}", 0)


@dataclass(frozen=True, kw_only=True)
class Dirt(Feature):
    """A dirty tile, clean once the agent ends a step on it (event `clean`); success while all are clean.

    `info["dirt_clean"]` is the share of tiles that are clean.

    Args:
        reward: paid for each tile cleaned.
        dump: adds the action `dump`, which makes the clean tile underfoot dirty again (event `dump`).
        dump_reward: paid for that.
        stops: the episode ends when all tiles are clean.
    """

    letter: str = "D"
    reward: float = 1.0
    dump: bool = False
    dump_reward: float = 0.0
    stops: bool = False

    @property
    def actions(self) -> tuple[str, ...]:
        return ("dump",) if self.dump else ()

    def flags(self, cells: int) -> dict[str, int]:
        return {f"{self.letter}_{i}": 2 for i in range(cells)}

    def apply(self, moment: Moment) -> None:
        which, dumps = moment.which(self.letter), moment.action == "dump"
        for i in range(int(moment.number[self.letter].max()) + 1):
            flag = moment.flags[f"{self.letter}_{i}"]
            cleans, spills = (which == i) & ~dumps & (flag == 0), (which == i) & dumps & (flag == 1)
            moment.happened("clean", cleans, pays=self.reward)
            if self.dump:
                moment.happened("dump", spills, pays=self.dump_reward)
            flag[cleans] = 1
            flag[spills] = 0
        moment.success |= moment.all_set(self.letter)

    def ends(self, place: Place) -> np.ndarray | None:
        return place.all_set(self.letter) if self.stops else None

    def measures(self, place: Place) -> dict[str, np.ndarray]:
        own = [value for name, value in place.flags.items() if name.startswith(f"{self.letter}_")]
        return {"dirt_clean": np.mean(own, axis=0)}

    def lit(self, flags: Mapping[str, int], i: int) -> bool:
        return not flags[f"{self.letter}_{i}"]


@dataclass(frozen=True, kw_only=True)
class Lava(Feature):
    """Entering it ends the episode without success (event `death`)."""

    letter: str = "L"
    reward: float = -1.0

    def apply(self, moment: Moment) -> None:
        moment.happened("death", moment.entered(self.letter), pays=self.reward)

    def ends(self, place: Place) -> np.ndarray | None:
        return place.at(self.letter)


@dataclass(frozen=True, kw_only=True)
class Trap(Feature):
    """Who enters it (event `trap`) cannot leave, and the episode goes on."""

    letter: str = "T"
    reward: float = 0.0

    def steer(self, moment: Moment) -> None:
        held = moment.number[self.letter][moment.before] >= 0
        moment.cell[held] = moment.before[held]

    def apply(self, moment: Moment) -> None:
        moment.happened("trap", moment.entered(self.letter), pays=self.reward)


@dataclass(frozen=True, kw_only=True)
class Bonus(Feature):
    """Something to collect (event `bonus`).

    Args:
        reward: paid each time.
        when: `once` (a coin: it is gone then), `entry` (each time it is entered) or `step` (each step that ends there).
    """

    letter: str = "B"
    reward: float = 1.0
    when: Literal["once", "entry", "step"] = "once"

    def __post_init__(self) -> None:
        if self.when not in ("once", "entry", "step"):
            raise BadInput("Bonus.when", expected="once, entry or step", received=self.when)

    def flags(self, cells: int) -> dict[str, int]:
        return {f"{self.letter}_{i}": 2 for i in range(cells)} if self.when == "once" else {}

    def apply(self, moment: Moment) -> None:
        if self.when != "once":
            there = moment.at(self.letter) if self.when == "step" else moment.entered(self.letter)
            moment.happened("bonus", there, pays=self.reward)
            return
        which = moment.which(self.letter)
        for i in range(int(moment.number[self.letter].max()) + 1):
            flag = moment.flags[f"{self.letter}_{i}"]
            taken = (which == i) & (flag == 0)
            moment.happened("bonus", taken, pays=self.reward)
            flag[taken] = 1

    def lit(self, flags: Mapping[str, int], i: int) -> bool:
        return not flags.get(f"{self.letter}_{i}", 0)


FEATURES: Mapping[str, type[Feature]] = {cls.__name__: cls for cls in (Goal, Checkpoint, Dirt, Lava, Trap, Bonus)}
"""The features that a spec can name."""
DEFAULTS: Mapping[str, Feature] = {f.letter: f for f in (Goal(), Checkpoint(), Dirt(), Lava(), Trap(), Bonus())}
"""What a letter means where no feature is given for it."""
