"""The network as an attacker sees it: gradients, the ball, ascent, surrogates."""
