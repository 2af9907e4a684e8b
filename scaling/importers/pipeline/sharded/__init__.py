"""An import cut into jobs by a hash of the user: any number of workers make the pieces, and one store comes out.

The store is byte for byte that of `import_log`, whose steps the jobs call. `job_order.py` has the phases and what a worker does.
Not here: jobs of SLURM (`sweeps.import_jobs`).
"""

from scaling.importers.pipeline.sharded.job_order import count_done, work_off
from scaling.importers.pipeline.sharded.store_assembly import Workers, import_in_shards
from scaling.importers.pipeline.sharded.work_folder import ShardedImport
from scaling.importers.pipeline.sharded.worker_processes import local_workers

__all__ = [
    "ShardedImport",
    "Workers",
    "count_done",
    "import_in_shards",
    "local_workers",
    "work_off",
]
