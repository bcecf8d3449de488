"""What only a GPU can show: tests, speed and memory, from the checkout and with nothing installed."""
