#!/bin/bash
#SBATCH --job-name=meta_train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120

# --reuse-run-dir: the first start creates the run, every later one resumes it.
srun --kill-on-bad-exit=1 .venv/bin/python -m meta_train lagg_fmnist8_k8_h4 \
  --run-dir runs/paper --reuse-run-dir --distributed auto
code=$?
if [ $code -ne 0 ] && [ $code -ne 2 ] && [ $code -ne 3 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
