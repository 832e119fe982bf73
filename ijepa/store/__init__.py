"""Prepared data sets: ``write`` packs a source, ``read`` opens it, ``pictures`` decodes."""
