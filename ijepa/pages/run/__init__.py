"""The page of one run: ``collect`` gathers, ``charts`` and ``figures`` draw, ``pages`` writes."""
