"""Ablations: experiments as data, run with several seeds, judged, and reported.

``experiment`` reads ``experiments/NAME.yaml`` (one file a table) and ``experiments/scales/*.yaml``
(how large). The other modules make runs of them, run them, and turn their lock files into pages.
"""
