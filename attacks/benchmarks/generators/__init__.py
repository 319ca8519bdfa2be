"""Small generators of medical images, as clients of a federation train them."""
