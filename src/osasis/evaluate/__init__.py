"""Numbers one can trust: metrics, density ranking, tables and reports."""
