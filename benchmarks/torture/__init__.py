"""Faults on purpose: kills, signals, damaged files, a lost database, a full disk.

``place`` and ``states`` run the stages, ``trials`` draws, keeps and counts; every other file is a
family of faults.
"""
