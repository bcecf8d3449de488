"""Controls: algorithms without local models, which tell what an outer step, an average or a second loop gains alone.

They exchange gradients at every local step, so they show no drift between workers, and save no communication.
"""
