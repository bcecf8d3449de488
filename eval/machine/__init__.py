"""The machine: its devices, what identifies it, and progress shown on its terminal."""
