"""Systems of the zoo on texts, which must find on a device what they find on the CPU: see `running`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from running import case, main, replicates

from plaudit.zoo import helpsteer2_preference


@case
def helpsteer2(device: str, folder: Path) -> None:
    system = helpsteer2_preference.SYSTEM
    replicates(system, replace(system.scales["smoke"], seeds=1, rates=(1e-3,), align_seeds=1), device)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
