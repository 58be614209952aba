"""`python -m trek_lm.leaderboard FOLDER...`: the work is in `trek_lm.runs.leaderboard`."""

import sys

from trek_lm.cli import leave
from trek_lm.runs.leaderboard import main

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Exception, KeyboardInterrupt) as error:
        leave(error)
