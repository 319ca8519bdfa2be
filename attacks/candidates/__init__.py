"""Records whose membership is in question: what is read of them, and what guesses at them are worth."""
