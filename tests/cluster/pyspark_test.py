"""`examples/pyspark/reindex_job.py` on a master and two workers, one of which is killed.

Called by `tests/cluster/run`, with the binary as its argument. The index that comes out has to have
the bytes of the one that one process makes.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyspark

REPOSITORY = Path(__file__).resolve().parents[2]
SPARK = Path(pyspark.__file__).parent
N_DOCS = 3000
UNIT_DOCS = 50


def main():
    binary = Path(sys.argv[1]).resolve()
    folder = Path(tempfile.mkdtemp(prefix="laconic-pyspark-"))
    cluster = Cluster(folder)
    try:
        make_source(binary, folder)
        laconic(binary, folder, f"reindex shop whole --vectors vectors.jsonl --unit-docs {UNIT_DOCS}")
        planned = laconic(binary, folder, f"plan shop --job job --vectors vectors.jsonl --unit-docs {UNIT_DOCS} --json")
        n_units = len(json.loads(planned)["units"])
        assert n_units == N_DOCS // UNIT_DOCS, n_units
        cluster.start()
        slow = write_slow_binary(folder, binary)
        job = start_job(folder, cluster.url, slow, n_units // 2)
        n_done = wait_for_pieces(folder, 6, job)
        assert n_done < n_units - 10, f"{n_done} units were done before a worker could be killed"
        cluster.kill_worker()
        output, errors = job.communicate(timeout=240)
        assert job.returncode == 0, errors[-4000:]
        lost = [line for line in errors.splitlines() if "Lost executor" in line]
        assert lost, "Spark noticed no loss of a worker:\n" + errors[-4000:]
        print(output.strip().splitlines()[-1])
        laconic(binary, folder, "assemble --job job new")
        assert_same(folder / "whole", folder / "new")
        check = json.loads(laconic(binary, folder, "check --index new --json"))
        assert check["clean"] is True, check
        print(f"ok: a worker killed after {n_done} of {n_units} units; the same bytes as by one process")
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def laconic(binary, folder, line):
    done = subprocess.run([binary, *line.split()], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout


def make_source(binary, folder):
    """An index without vectors, of two segments with replaced documents; and vectors, shuffled."""
    chance = random.Random(7)
    words = [f"word{number}" for number in range(500)]
    documents, vectors = [], []
    for number in range(N_DOCS - 100):
        text = " ".join(chance.choices(words, k=30))
        documents.append(json.dumps({"_id": f"d{number}", "text": text}))
        weights = {word: round(chance.uniform(0.1, 2.5), 4) for word in chance.sample(words, 20)}
        vectors.append(json.dumps({"_id": f"d{number}", "vector": weights}))
    (folder / "docs.jsonl").write_text("\n".join(documents) + "\n")
    (folder / "some.jsonl").write_text("\n".join(documents[200:300]) + "\n")
    chance.shuffle(vectors)
    (folder / "vectors.jsonl").write_text("\n".join(vectors) + "\n")
    for name in ["docs", "some"]:
        laconic(binary, folder, f"index --index shop --docs {name}.jsonl")


def write_slow_binary(folder, binary):
    """So that there is a middle in which a worker can be killed."""
    slow = folder / "slow-laconic"
    slow.write_text(f'#!/bin/sh\nsleep 0.7\nexec "{binary}" "$@"\n')
    slow.chmod(0o755)
    return slow


def start_job(folder, master, binary, tasks):
    command = [
        SPARK / "bin/spark-submit",
        *("--master", master),
        *("--conf", "spark.ui.enabled=false"),
        *("--conf", f"spark.executorEnv.LACONIC_BINARY={binary}"),
        *("--conf", "spark.driver.host=127.0.0.1"),
        *("--executor-memory", "512m", "--driver-memory", "512m"),
        REPOSITORY / "examples/pyspark/reindex_job.py",
        *("--job", folder / "job", "--tasks", str(tasks)),
        *("--", "--vectors", folder / "vectors.jsonl"),
    ]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=pipe, stderr=pipe, text=True)


def environment():
    python = sys.executable
    own = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": python}
    return {**os.environ, "SPARK_HOME": str(SPARK), **own}


def wait_for_pieces(folder, least, job):
    for _ in range(1200):
        n_done = len(list((folder / "job").glob("unit-*.piece")))
        if n_done >= least:
            return n_done
        assert job.poll() is None, job.communicate()[1][-4000:]
        time.sleep(0.05)
    raise AssertionError("the workers do nothing")


def assert_same(whole, new):
    files = {path.name for path in whole.iterdir() if path.suffix != ".lock"}
    assert files == {path.name for path in new.iterdir() if path.suffix != ".lock"}
    assert len(files) > 15, files
    for name in files:
        assert (whole / name).read_bytes() == (new / name).read_bytes(), name


class Cluster:
    """A standalone master and two workers of one core each, on loopback."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []
        self.url = None

    def start(self):
        port = free_port()
        self.url = f"spark://127.0.0.1:{port}"
        self.launch("master", "org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0")
        self.wait_for("master", "I have been elected leader")
        for name in ["worker1", "worker2"]:
            own = ["--host", "127.0.0.1", "--cores", "1", "--memory", "600m", "--webui-port", "0"]
            self.launch(name, "org.apache.spark.deploy.worker.Worker", *own, "--work-dir", str(self.folder / name), self.url)
        for name in ["worker1", "worker2"]:
            self.wait_for(name, "Successfully registered with master")

    def launch(self, name, main_class, *arguments):
        log = open(self.folder / f"{name}.log", "w")
        command = [SPARK / "bin/spark-class", main_class, *arguments]
        # A group of its own, which is killed as a whole: the machine is gone.
        process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log, start_new_session=True)
        self.processes.append(process)

    def wait_for(self, name, words):
        for _ in range(600):
            log = (self.folder / f"{name}.log").read_text()
            if words in log:
                return
            time.sleep(0.1)
        raise AssertionError(f"{name} does not start:\n{log[-3000:]}")

    def kill_worker(self):
        os.killpg(self.processes[1].pid, signal.SIGKILL)

    def stop(self):
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    main()
