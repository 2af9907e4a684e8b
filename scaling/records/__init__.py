"""The files of a run and who may write them: records, attempts, leases, provenance. Needs no torch.

Not here: checkpoints and models (`scaling.training`), tables of many runs (`analysis.table`).
"""

from scaling.records.attempts import Failure, is_attempt, read_attempts, remove_attempts
from scaling.records.lease import Lease, LeaseLostError, RunBusyError, claim
from scaling.records.provenance import COMMAND_VARIABLE, describe_environment, read_code_version
from scaling.records.record import MODEL_FILE, RunRecord, TeacherRecord, ordered_records
from scaling.records.run_store import RunState, RunStore

__all__ = [
    "COMMAND_VARIABLE",
    "MODEL_FILE",
    "Failure",
    "Lease",
    "LeaseLostError",
    "RunBusyError",
    "RunRecord",
    "RunState",
    "RunStore",
    "TeacherRecord",
    "claim",
    "describe_environment",
    "is_attempt",
    "ordered_records",
    "read_attempts",
    "read_code_version",
    "remove_attempts",
]
