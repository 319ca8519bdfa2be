"""Membership of images in what a generator was trained on, from the images that it makes."""
