"""The workers of a planned reindexing job, on Spark.

    laconic plan shop --job /shared/job --text title,body --model /models/laconic-1b
    spark-submit --conf spark.executorEnv.LACONIC_BINARY=/opt/laconic examples/pyspark/reindex_job.py \
        --job /shared/job --tasks 64 -- --model /models/laconic-1b
    laconic assemble --job /shared/job shop-laconic

Spark deals out ranges of units; `laconic work` does them. Nothing passes through Spark but the
numbers of units: documents are read from the index, and finished units are written into the
folder of the job, both on a disk that all executors see. An executor that dies is no matter: Spark
gives its range to another one, which passes over the units that are done. What stands behind `--`
goes to `laconic work`.

The binary is, on each executor: what `--laconic` says, else `spark.laconic.binary`, else the
environment's `LACONIC_BINARY` (set it by `spark.executorEnv.LACONIC_BINARY`), else `laconic` on the
PATH.
"""

import argparse
import json
import os
import socket
import subprocess
import sys

RESULT = "first long, last long, units long, resumed_units long, documents long, seconds double, host string"


def main():
    arguments, work_arguments = parse(sys.argv[1:])
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.appName("laconic work").getOrCreate()
    binary = arguments.laconic or spark.conf.get("spark.laconic.binary", None)
    n_units = count_units(arguments.job)
    tasks = min(n_units, arguments.tasks or 2 * spark.sparkContext.defaultParallelism)
    if n_units == 0:
        print("no units to do")
        return
    work = worker(binary, arguments.job, work_arguments)
    # A partition of a range is a range, so one task loads the model once.
    units = spark.range(0, n_units, 1, max(tasks, 1))
    done = units.mapInPandas(work, RESULT).collect()
    total = sum(row.units for row in done), sum(row.documents for row in done)
    hosts = len({row.host for row in done})
    print(f"{total[0]} units done, {total[1]} documents in {len(done)} ranges on {hosts} hosts")
    spark.stop()


def parse(arguments):
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--job", required=True, help="folder that `laconic plan` wrote into")
    parser.add_argument("--tasks", type=int, help="ranges of units [default: two for every core]")
    parser.add_argument("--laconic", help="the binary, on the executors")
    return parser.parse_args(arguments[:split]), arguments[split + 1 :]


def count_units(job):
    """The units follow from the plan: of each segment, so many documents at a time."""
    with open(os.path.join(job, "plan.json"), encoding="utf-8") as file:
        plan = json.load(file)
    if plan["version"] != 1:
        sys.exit(f"the plan in {job} has version {plan['version']}; this script knows 1")
    size = plan["unit_docs"]
    return sum(-(-segment["max_doc"] // size) for segment in plan["segments"])


def worker(binary, job, work_arguments):
    """What runs on the executors: a range of units by one call of `laconic work`."""

    def work(batches):
        import pandas

        numbers = [int(number) for batch in batches for number in batch["id"]]
        if not numbers:
            return
        first, last = min(numbers), max(numbers)
        program = binary or os.environ.get("LACONIC_BINARY") or "laconic"
        command = [program, "work", "--job", job, "--units", f"{first}-{last}", "--json", *work_arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"units {first} to {last}: {done.stderr.strip()}")
        report = json.loads(done.stdout)
        row = {key: report[key] for key in ("units", "resumed_units", "documents", "seconds")}
        row.update(first=first, last=last, host=socket.gethostname())
        yield pandas.DataFrame([row])

    return work


if __name__ == "__main__":
    main()
