"""What ran, when and with which result: the only code that knows Sacred, MongoDB and Omniboard.

``journal`` writes every run to disk and is the truth; ``sync`` fills a MongoDB from it, which can
be rebuilt at any time; ``mongo`` is the embedded server; ``omniboard`` shows the runs; ``runs``
reads the journal.
"""
