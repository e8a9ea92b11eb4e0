"""How fast osasis is on this machine: what is measured, and how it is shown."""
