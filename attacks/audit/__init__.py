"""Audits: does the training leak more than its certificate claims?"""
