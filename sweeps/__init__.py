"""Many runs: grid, plan with costs, dispatch through submitit, status."""
