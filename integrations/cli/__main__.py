"""``python -m integrations.cli``."""

from integrations.cli import main

main()
