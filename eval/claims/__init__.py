"""What papers claim of the algorithms, in direction, on embedded tasks: `python -m eval claims`; and what becomes of
learned optimizers where communication is no full average: `python -m eval conditions`."""
