"""Ablations: experiments as data, run with several seeds, judged, and reported.

``experiment`` reads ``experiments/NAME.yaml`` (one file a table) and ``experiments/scales/*.yaml``
(how large). ``plan``, ``runner`` and their like make runs of them and run them into lock files;
``bundle`` and ``merge`` bring home what ran on another machine;
``rows`` and ``summary`` turn a lock file into ``numbers``, which ``ijepa.pages`` shows.
"""
