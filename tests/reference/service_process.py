"""A server with its worker, and the client's answers as JSON, for scripts that need both."""

import json
import os
import re
import signal
import subprocess
import time

# The names of enum values carry their type's since they were renamed; the rest of a name stayed.
PREFIXES = ("METHOD_", "ALLOCATION_", "OUTPUT_FORMAT_", "ENCODING_", "PACKING_", "JOB_STATE_",
            "JOB_KIND_")


def plain(value):
    """An enum value's name, as it was before it carried its type's."""
    for prefix in PREFIXES:
        if isinstance(value, str) and value.startswith(prefix):
            return value.removeprefix(prefix)
    return value


def processor():
    """The processor and the vectors it has: what decides the last bits of a product."""
    cpu = {}
    with open("/proc/cpuinfo") as file:
        for line in file:
            key, _, value = line.partition(":")
            cpu.setdefault(key.strip(), value.strip())
    vectors = [flag for flag in ("avx2", "avx512f") if flag in cpu.get("flags", "").split()]
    return " ".join([cpu.get("model name", "unknown"), "family", cpu.get("cpu family", "?"),
                     "model", cpu.get("model", "?"), *vectors])


class Service:
    """Serves on a free port of this machine from entry to exit.

    One thread, on the processor: sums are in one order, and a run repeats another's bytes.
    """

    def __init__(self, server, client, data_dir, *flags):
        self.binary = client
        os.makedirs(data_dir, exist_ok=True)
        self.log_path = f"{data_dir}/server.log"
        self.command = [server, "--listen=127.0.0.1:0", "--http_listen=127.0.0.1:0",
                        f"--data_dir={data_dir}", "--devices=cpu", "--drain_seconds=0", *flags]

    def __enter__(self):
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith("SVDLLM_")}
        environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(self.command, stderr=log, env=environment)
        deadline = time.monotonic() + 60
        match = None
        while not match and time.monotonic() < deadline and self.process.poll() is None:
            time.sleep(0.05)
            match = re.search(r'"grpc_port":"(\d+)"', self.log())
        if not match:
            self.process.kill()
            self.process.wait()
            raise RuntimeError("the server did not start:\n" + self.log())
        self.address = f"127.0.0.1:{match.group(1)}"
        self.http_port = int(re.search(r'"http_port":"(\d+)"', self.log()).group(1))
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        if status != 0:
            raise RuntimeError(f"the server ended with {status}:\n" + self.log())

    def log(self):
        with open(self.log_path) as file:
            return file.read()

    def client(self, *arguments, timeout=600):
        """The exit status, what was printed on standard output, and on standard error."""
        command = [self.binary, *arguments, f"--server={self.address}", "--format=json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        return done.returncode, done.stdout, done.stderr

    def ask(self, *arguments):
        """The answer of a command that must succeed."""
        status, output, errors = self.client(*arguments)
        if status != 0:
            raise RuntimeError(f"svdllm {' '.join(arguments)}: exit {status}\n{errors or output}")
        return json.loads(output)

    def jobs(self):
        return self.ask("jobs", "list", "--limit=0")["jobs"]

    def await_all(self, timeout=600):
        """Until no job waits or runs."""
        deadline = time.monotonic() + timeout
        unfinished = ("QUEUED", "RUNNING", "CANCELLING")
        while any(plain(job["state"]) in unfinished for job in self.jobs()):
            if time.monotonic() > deadline:
                raise RuntimeError("jobs have not ended:\n" + self.log()[-4000:])
            time.sleep(0.2)
