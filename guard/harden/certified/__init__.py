"""Training for answers that can be certified: a bound over the whole ball is part of the loss."""
