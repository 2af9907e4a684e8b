"""The files of a run and who may write them: records, attempts, leases, provenance. Needs no torch.

Not here: checkpoints and models (`scaling.training`), tables of many runs (`analysis.table`).
"""

from scaling.records.attempts import (
    Failure,
    is_attempt,
    read_attempts,
    remove_leftovers,
    remove_work_files,
)
from scaling.records.digests import check_file, file_digest, read_record, without_digest
from scaling.records.lease import Lease, LeaseLostError, RunBusyError, claim
from scaling.records.provenance import (
    COMMAND_VARIABLE,
    describe_environment,
    read_code_version,
    user_command,
)
from scaling.records.pursuit_log import PURSUIT_LOG, PursuitRound, append_round, read_rounds
from scaling.records.record import (
    CURVE_FILE,
    MODEL_FILE,
    DayMetrics,
    RunRecord,
    TeacherRecord,
    ordered_records,
)
from scaling.records.run_store import RunState, RunStore
from scaling.records.settings_of_runs import (
    Columns,
    distinguishing_settings,
    run_settings,
    settings_columns,
    value_text,
    varied_settings,
)
from scaling.records.training_curve import CurvePoint, read_curve
from scaling.records.verification import RunsCheck, verify_runs

__all__ = [
    "COMMAND_VARIABLE",
    "CURVE_FILE",
    "MODEL_FILE",
    "PURSUIT_LOG",
    "Columns",
    "CurvePoint",
    "DayMetrics",
    "Failure",
    "Lease",
    "LeaseLostError",
    "PursuitRound",
    "RunBusyError",
    "RunRecord",
    "RunState",
    "RunStore",
    "RunsCheck",
    "TeacherRecord",
    "append_round",
    "check_file",
    "claim",
    "describe_environment",
    "distinguishing_settings",
    "file_digest",
    "is_attempt",
    "ordered_records",
    "read_attempts",
    "read_code_version",
    "read_curve",
    "read_record",
    "read_rounds",
    "remove_leftovers",
    "remove_work_files",
    "run_settings",
    "settings_columns",
    "user_command",
    "value_text",
    "varied_settings",
    "verify_runs",
    "without_digest",
]
