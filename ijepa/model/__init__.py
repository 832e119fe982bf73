"""The networks: encoder (``vit``), ``predictor``, ``teacher``, and their cost (``flops``)."""
