"""From a config to an encoder: ``loop`` is the page to read, the rest are its parts."""
