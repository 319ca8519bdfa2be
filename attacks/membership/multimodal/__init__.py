"""Membership inference on models that read images and text: was this image, with its report, trained on?"""
