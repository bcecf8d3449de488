"""Training from values of the loss alone, where no gradient can be had: black boxes, private or discrete pipelines.

Against gradients they lose by a factor of the dimension; compare them with each other, on tens of parameters.
"""
