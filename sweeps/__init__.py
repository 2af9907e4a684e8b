"""Many runs: the plan of a study with its costs, the queue, dispatch through submitit, status.

Not here: training one run (`scaling.training`), what the runs mean (`analysis`).
"""
