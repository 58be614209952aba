"""`python -m trek_lm.leaderboard FOLDER...`; the code is in `trek_lm.runs.leaderboard`."""

import sys

from trek_lm.cli import exit_with_error
from trek_lm.runs.leaderboard import main

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Exception, KeyboardInterrupt) as error:
        exit_with_error(error)
