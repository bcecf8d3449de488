"""What explains a run beside its loss, one idea per file."""
