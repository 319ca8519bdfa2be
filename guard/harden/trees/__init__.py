"""Training of trees for answers that can be certified: the bound of every tree is part of the loss."""
