"""The command `osasis`: thin, one module per command."""
