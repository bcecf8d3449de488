"""Workers that are late: who is, what a round without them does, and codes that need not wait for them."""
