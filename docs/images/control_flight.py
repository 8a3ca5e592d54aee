"""Draw one controlled flight of a simulated specimen: the figure of the README and of the tutorial on control.

    python docs/images/control_flight.py

It flies in real time, for about half a minute; each flight differs a little, since it runs by a clock.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FIGURE = Path(__file__).with_suffix(".png")
SEED = "1"  # the demo's own

if __name__ == "__main__":
    line = [sys.executable, "-m", "eelstm_stream", "demo", "--seed", SEED, "--speed", "1", "--figure", str(FIGURE)]
    sys.exit(subprocess.run(line, check=False).returncode)
