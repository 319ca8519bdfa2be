"""Membership of images with texts in the training data of a vision-language model."""
