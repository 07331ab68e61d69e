"""How results are shown: tables and JSON on stdout, progress on stderr. Loads no torch."""
