"""Targets whose means, standard deviations and evidence are exactly known: is what the verdict trusts ever wrong?"""
