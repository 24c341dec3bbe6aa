#!/bin/bash
# One process a GPU node under SLURM; requeued when it was stopped by a signal (exit code 75).
#
#   sbatch --nodes 4 configs/launch/slurm.sh configs/reds_large.py runs/large PREPARED_REDS
#
# Not yet run on a cluster: say what you had to change.
#SBATCH --job-name=deblur
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM to every process ten minutes before the time limit: time to finish the step and save.
#SBATCH --signal=TERM@600

srun --kill-on-bad-exit=0 deblur train --distributed --config "$1" --workdir "$2" --data "$3"
code=$?
if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
