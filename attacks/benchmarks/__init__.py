"""What an experiment runs on: real data sets, a procedural one, the thief's pool, and victims to attack."""
