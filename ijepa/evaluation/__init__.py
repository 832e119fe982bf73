"""From a frozen encoder to numbers: ``probing`` fits, ``scores`` counts, ``run`` writes."""
