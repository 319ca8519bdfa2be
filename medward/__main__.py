"""``python -m medward``: the command line."""

from medward.integrations.cli import main

main()
