"""Task families, one per file: what meta-training learns on and evaluation judges by."""
