"""How accuracy on shifted images follows accuracy on unshifted ones, for each optimizer over its sweep:
`python -m eval ood`."""
