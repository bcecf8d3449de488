"""Search over a few meta-parameters by CMA-ES: each candidate is judged by whole trainings, so that decisions about
rates, which pay off late, are judged by what they lead to. For optimizers with tens of numbers, not thousands."""
