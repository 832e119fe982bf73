"""Every figure of every page, one a file: see ``ijepa.pages.figure``."""
