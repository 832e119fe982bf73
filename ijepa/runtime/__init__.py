"""The machine around a run: hardware, processes, files, and how errors are said. No science."""
