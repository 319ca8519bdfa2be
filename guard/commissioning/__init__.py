"""Commissioning: a stretch of time in which one organisation is told in words what is strange about its inputs."""
