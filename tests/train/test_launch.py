"""The templates in configs/launch/, as far as they can be tried without a cluster."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "configs" / "launch"


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (1, False), (75, True)])
def test_slurm_requeues_what_was_stopped_and_nothing_else(tmp_path, code, requeued):
    for name, ends in (("srun", code), ("scontrol", 0)):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/said\nexit {ends}\n')
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711"}
    done = subprocess.run(["bash", LAUNCH / "slurm.sh", "my config.py", "run", "data"], env=environment)
    assert done.returncode == code
    said = (tmp_path / "said").read_text().splitlines()
    assert said[0].endswith("deblur train --distributed --config my config.py --workdir run --data data")
    assert said[1:] == ["scontrol requeue 4711"] * requeued


def test_the_jobset_restarts_what_was_stopped_and_nothing_else():
    jobset = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    container = job["template"]["spec"]["containers"][0]
    ends, restarts = job["podFailurePolicy"]["rules"], jobset["spec"]["failurePolicy"]["rules"]
    codes = {rule["action"]: (rule["onExitCodes"]["operator"], rule["onExitCodes"]["values"]) for rule in ends}
    assert all(rule["onExitCodes"]["containerName"] == container["name"] for rule in ends)
    assert codes == {"Count": ("In", [75]), "FailJob": ("In", [1, 2])}
    assert job["backoffLimit"] == 0  # what is counted fails the job, and a failed job restarts the set ...
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # which a podFailurePolicy asks for
    # ... but for those that the policy itself failed.
    assert restarts == [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}]
    # Each host knows the first one's name, and its own number.
    said = container["command"] + container["args"]
    name = jobset["metadata"]["name"]
    first = f"{name}-{jobset['spec']['replicatedJobs'][0]['name']}-0-0.{name}"
    assert said[said.index("--coordinator") + 1].partition(":")[0] == first
    assert said[said.index("--processes") + 1] == str(job["parallelism"]) == str(job["completions"])
    assert said[said.index("--process") + 1] == f"$({container['env'][0]['name']})"
    assert "job-completion-index" in container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"]
    # What a restart goes on from, and what all hosts read, is not a container's own disk.
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    claimed = {volume["name"] for volume in job["template"]["spec"]["volumes"] if "persistentVolumeClaim" in volume}
    for flag in ("--workdir", "--data"):
        root = "/" + said[said.index(flag) + 1].split("/")[1]
        assert mounted[root] in claimed
