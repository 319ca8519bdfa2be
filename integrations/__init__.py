"""Where Medward meets its neighbours: one file or folder per neighbour, each behind its own extra."""
