"""The report of one run: results -> one page, figures, Markdown and the JSON they are made from.

``collect`` gathers every number into one tree, ``views`` looks at images through the encoder,
``charts`` and ``figures`` draw, ``words`` says what the numbers mean, ``pages`` writes the page.
The same inputs give the same bytes: no clock, no fonts of the machine, no random ids.
"""
