"""A real SLURM with several nodes on one machine: no systemd, cgroups or GPU; any user; one scratch folder.

    python tests/support/slurm_cluster.py install [--accounting]       # Debian or Ubuntu, as root
    eval "$(python tests/support/slurm_cluster.py start /tmp/sc)"      # prints export SLURM_CONF=...
    python tests/support/slurm_cluster.py stop /tmp/sc

Tests use the class. Each node is a separate slurmd with two fake GPUs (character devices that every machine
has). Keep the path of the folder short, because it contains sockets.
"""

import argparse
import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CORE_PACKAGES = ("slurm-wlm", "munge")
ACCOUNTING_PACKAGES = ("slurmdbd", "mariadb-server")

# an ordinary user's path often lacks the daemons' folder
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def missing_daemons(accounting: bool = False) -> list[str]:
    """Return the programs that are not installed."""
    names = [*DAEMONS, *(["slurmdbd", "mariadbd"] if accounting else [])]
    return [name for name in names if shutil.which(name, path=_PATH) is None]


def install(accounting: bool = False) -> None:
    """Install the missing packages with apt, without starting a service."""
    if not missing_daemons(accounting):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit(
            f"error: {', '.join(missing_daemons(accounting))} not installed; "
            "as root on Debian or Ubuntu this script installs them, elsewhere install slurm-wlm and munge"
        )
    policy = Path("/usr/sbin/policy-rc.d")  # Debian's way to keep packages from starting services
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    packages = [*CORE_PACKAGES, *(ACCOUNTING_PACKAGES if accounting else ())]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
        ):
            subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    finally:
        if ours:
            policy.unlink()


@dataclass
class Cluster:
    """`n_nodes` nodes n1, n2, ... of 4 cores and 2 fake GPUs in the partition `gpu`.

    Jobs in a second partition, `urgent`, take the nodes from those in the first, which are requeued.

    `options` are further lines of slurm.conf, e.g. `{"JobRequeue": 0, "MaxArraySize": 11}`.
    """

    folder: Path
    n_nodes: int = 4
    accounting: bool = False
    options: dict[str, object] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        """The path that SLURM_CONF must have for all clients."""
        return self.folder / "etc" / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of daemons and clients."""
        return {**os.environ, "PATH": _PATH, "SLURM_CONF": str(self.conf)}

    def nodes(self) -> list[str]:
        """Return the names of the nodes."""
        return [f"n{index}" for index in range(1, self.n_nodes + 1)]

    def start(self) -> None:
        """Write the configuration, start all daemons and wait until every node is idle."""
        if (self.folder / "etc").exists():
            raise SystemExit(f"error: {self.folder}: holds a cluster already")
        for name in ("etc", "munge", "run", "state", "log", *(f"spool/{n}" for n in self.nodes())):
            (self.folder / name).mkdir(parents=True, mode=0o755)
        (self.folder / "munge").chmod(0o700)
        key = self.folder / "munge" / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        self._write_configuration(_free_ports(4 + self.n_nodes))
        self._start_munge()
        if self.accounting:
            self._start_accounting()
        self.start_controller()
        for node in self.nodes():
            self.start_node(node)
        self.wait_idle()

    def wait_idle(self, seconds: float = 30.0) -> None:
        """Wait until all nodes are idle; on a time-out, raise an error with the end of the controller's log."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.run("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(self.n_nodes):
                return
            time.sleep(0.1)
        log = self.folder / "log" / "slurmctld.log"
        tail = "\n".join(log.read_text().splitlines()[-15:]) if log.exists() else "no log"
        raise SystemExit(f"error: the nodes did not become idle:\n{self.run('sinfo')}\n{tail}")

    def start_controller(self) -> None:
        """Start slurmctld, from the saved state if there is one."""
        self._daemon("slurmctld")

    def start_node(self, node: str) -> None:
        """Start a node's slurmd."""
        self._daemon("slurmd", "-N", node)

    def kill_node(self, node: str) -> None:
        """Kill a node's slurmd as if the node had lost its network; the processes of its jobs go on."""
        self._signal(f"slurmd-{node}.pid", signal.SIGKILL)

    def stop_controller(self) -> None:
        """Stop slurmctld, which saves its state."""
        pid = self._signal("slurmctld.pid", signal.SIGTERM)
        _wait_gone([pid] if pid else [], 15.0)

    def stop(self) -> None:
        """Cancel all jobs, and kill all daemons and all remaining processes of jobs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.run("scancel", "--signal=KILL", "--full", "-u", getpass.getuser(), timeout=5)
            self.run("scancel", "-u", getpass.getuser(), timeout=5)
        files = [path.name for path in (self.folder / "run").glob("*.pid")]
        pids = [pid for name in files if (pid := self._signal(name, signal.SIGKILL))]
        pids += self._kill_strays()
        _wait_gone(pids, 10.0)

    def _kill_strays(self) -> list[int]:
        """Kill jobs whose slurmd was killed; they are found by SLURM_CONF, which they inherit from the daemon."""
        needle = f"SLURM_CONF={self.conf}".encode()
        killed = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) not in (os.getpid(), os.getppid()):
                with contextlib.suppress(OSError):
                    variables = (entry / "environ").read_bytes().split(b"\0")
                    of_a_job = any(v.startswith(b"SLURM_JOB_ID=") for v in variables)
                    stepd = b"slurmstepd" in (entry / "cmdline").read_bytes()
                    if needle in variables and (of_a_job or stepd):
                        os.kill(int(entry.name), signal.SIGKILL)
                        killed.append(int(entry.name))
        return killed

    def run(self, *command: str, timeout: float = 30.0) -> str:
        """Return the output of a client command, stdout and stderr together; it may fail."""
        done = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return done.stdout + done.stderr

    def _daemon(self, *command: str) -> None:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"error: {' '.join(command)}: {done.stderr or done.stdout}")

    def _signal(self, pid_file: str, number: int) -> int | None:
        path = self.folder / "run" / pid_file
        with contextlib.suppress(OSError, ValueError):
            pid = int(path.read_text())
            os.kill(pid, number)
            return pid
        return None

    def _start_munge(self) -> None:
        munge, run = self.folder / "munge", self.folder / "run"
        self._daemon(
            "munged",
            "--force",
            f"--key-file={munge / 'munge.key'}",
            f"--socket={run / 'munge.sock'}",
            f"--pid-file={run / 'munged.pid'}",
            f"--log-file={munge / 'munged.log'}",
            f"--seed-file={munge / 'munged.seed'}",
        )

    def _start_accounting(self) -> None:
        folder, user = self.folder / "mysql", getpass.getuser()
        socket_path = self.folder / "run" / "mysql.sock"
        self._daemon(
            *("mariadb-install-db", "--no-defaults", f"--user={user}", f"--datadir={folder}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
        )
        log = self.folder / "log" / "mysql.log"
        self._daemon(
            # it has no way of its own to go to the background
            *("sh", "-c", 'log=$1; shift; "$@" >"$log" 2>&1 </dev/null &', "sh", str(log)),
            *("mariadbd", "--no-defaults", f"--user={user}", f"--datadir={folder}"),
            *(f"--socket={socket_path}", f"--pid-file={self.folder / 'run' / 'mysql.pid'}"),
            *("--bind-address=127.0.0.1", f"--port={self._database_port}"),
            *("--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900"),
        )
        client = ["mariadb", "--no-defaults", f"--socket={socket_path}", "-u", "root", "-e"]
        users = " ".join(
            f"create user slurm@'{host}' identified by 'slurmpw'; "
            f"grant all on slurm_acct_db.* to slurm@'{host}';"
            for host in ("127.0.0.1", "localhost")
        )
        _poll(lambda: "ERROR" not in self.run(*client, "select 1"), 60.0, "the database")
        self.run(*client, f"create database slurm_acct_db; {users}")
        self._daemon("slurmdbd")
        _poll(lambda: "rror" not in self.run("sacctmgr", "-n", "list", "cluster"), 60.0, "slurmdbd")

    def _write_configuration(self, ports: list[int]) -> None:
        host, user, run = socket.gethostname().split(".")[0], getpass.getuser(), self.folder / "run"
        self._database_port, log = ports[2], self.folder / "log"
        settings: dict[str, object] = {
            "ClusterName": "test",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": ports[0],
            "SlurmUser": user,
            "SlurmdUser": user,
            "AuthType": "auth/munge",
            "CredType": "cred/munge",
            # a requeued job may not start again before its credential has expired
            "AuthInfo": f"socket={run / 'munge.sock'},cred_expire=5",
            "StateSaveLocation": self.folder / "state",
            "SlurmctldPidFile": run / "slurmctld.pid",
            "SlurmdPidFile": run / "slurmd-%n.pid",
            "SlurmdSpoolDir": self.folder / "spool" / "%n",
            "SlurmctldLogFile": log / "slurmctld.log",
            "SlurmdLogFile": log / "slurmd-%n.log",
            "MpiDefault": "none",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/linux",
            "JobAcctGatherFrequency": "task=1",
            "JobAcctGatherParams": "OverMemoryKill",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core_Memory",
            "SchedulerType": "sched/backfill",
            "SchedulerParameters": "sched_min_interval=0,bf_interval=5,batch_sched_delay=0",
            "PreemptType": "preempt/partition_prio",
            "PreemptMode": "REQUEUE",
            "GresTypes": "gpu",
            "SlurmdParameters": "config_overrides",  # more cores than the machine has
            "ReturnToService": 2,
            "SlurmdTimeout": 10,
            "SlurmctldTimeout": 10,
            "InactiveLimit": 0,
            "MinJobAge": 300,
            "KillWait": 5,
            "MailProg": "/bin/true",
            "PropagateResourceLimits": "NONE",
            "AccountingStorageType": "accounting_storage/none",
        }
        if socket.gethostbyname(host).startswith("127."):
            settings["CommunicationParameters"] = "NoInAddrAny,NoCtldInAddrAny"
        if self.accounting:
            settings |= {
                "AccountingStorageType": "accounting_storage/slurmdbd",
                "AccountingStorageHost": "localhost",
                "AccountingStoragePort": ports[1],
                "AccountingStoragePass": run / "munge.sock",
                "AccountingStorageTRES": "gres/gpu",
            }
            database = {
                "AuthType": "auth/munge",
                "AuthInfo": f"socket={run / 'munge.sock'}",
                "DbdHost": "localhost",
                "DbdAddr": "127.0.0.1",
                "DbdPort": ports[1],
                "SlurmUser": user,
                "LogFile": log / "slurmdbd.log",
                "PidFile": run / "slurmdbd.pid",
                "CommunicationParameters": "NoInAddrAny",
                "StorageType": "accounting_storage/mysql",
                "StorageHost": "127.0.0.1",
                "StoragePort": ports[2],
                "StorageUser": "slurm",
                "StoragePass": "slurmpw",
                "StorageLoc": "slurm_acct_db",
            }
            path = self.folder / "etc" / "slurmdbd.conf"
            path.write_text(_lines(database))
            path.chmod(0o600)
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 Boards=1 "
            "SocketsPerBoard=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=8000 Gres=gpu:2 State=UNKNOWN"
            for node, port in zip(self.nodes(), ports[3:], strict=False)
        ]
        names = f"n[1-{self.n_nodes}]"
        partitions = [
            f"PartitionName={name} Nodes={names} MaxTime=INFINITE State=UP DefMemPerCPU=500 {rest}"
            for name, rest in (
                ("gpu", "Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=4"),
                ("urgent", "PriorityTier=10 PreemptMode=OFF"),
            )
        ]
        text = _lines(settings | self.options) + "\n".join([*nodes, *partitions]) + "\n"
        self.conf.write_text(text)
        devices = "/dev/null,/dev/zero"  # every machine has these two character devices
        (self.folder / "etc" / "gres.conf").write_text(
            f"NodeName={names} Name=gpu File={devices}\n"
        )
        (self.folder / "etc" / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")


def _lines(settings: dict[str, object]) -> str:
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _poll(ready: object, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not ready():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise SystemExit(f"error: {what} did not start in {seconds:.0f} s")
        time.sleep(0.2)


def _wait_gone(pids: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(_is_running(pid) for pid in pids):
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def main() -> None:
    """Run one of the verbs in this file's description."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("install", "start", "stop"):
        verb = verbs.add_parser(name)
        if name != "install":
            verb.add_argument("folder", type=lambda text: Path(text).resolve())
        if name != "stop":
            verb.add_argument("--accounting", action="store_true", help="with slurmdbd and MariaDB")
        if name == "start":
            verb.add_argument("--nodes", type=int, default=4)
            verb.add_argument(
                "--set", action="append", default=[], help="a line of slurm.conf, e.g. JobRequeue=0"
            )
    wanted = parser.parse_args()
    if wanted.verb == "install":
        install(wanted.accounting)
        return
    cluster = Cluster(wanted.folder)
    if wanted.verb == "stop":
        cluster.stop()
        shutil.rmtree(wanted.folder)
        return
    cluster.n_nodes, cluster.accounting = wanted.nodes, wanted.accounting
    cluster.options = dict(line.split("=", 1) for line in wanted.set)
    if absent := missing_daemons(wanted.accounting):
        raise SystemExit(f"error: not installed: {', '.join(absent)}; see `install`")
    cluster.start()
    sys.stdout.write(f"export SLURM_CONF={cluster.conf}\n")


if __name__ == "__main__":
    main()
