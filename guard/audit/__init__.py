"""What the guard did: the log, its replay, and what it says of the traffic."""
