"""A bundle: the folder, its card, how it is made, and what a site adds."""
