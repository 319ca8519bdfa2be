"""Medward's defenses. `Guard` in ``guard.pipeline`` is the whole serving path; read that first."""
