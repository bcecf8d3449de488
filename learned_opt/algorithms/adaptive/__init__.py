"""Rounds of fewer local steps than their batches have: the number of steps between two communications is chosen as
training goes. Shapes stay: the batches of a round have the most steps there may be, and those left over are unused."""
