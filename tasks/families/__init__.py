"""Task families, one per file (drawn ones one per folder): what meta-training learns on and evaluation judges by."""
