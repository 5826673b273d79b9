#!/usr/bin/env python3
"""The validation suite's benchmarks on several runtimes in turns: see `critest-benchmark`, which prepares the node."""

import argparse
import json
import os
import pathlib
import subprocess
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "lib"))
import leftovers  # noqa: E402
import registry  # noqa: E402
from figures import Samples, in_turns  # noqa: E402
from peers import RUNTIMES  # noqa: E402
from service import log_folder  # noqa: E402

DATA = ("container_benchmark_data.json", "pod_benchmark_data.json", "image_lifecycle_benchmark_data.json",
        "image_listing_benchmark_data.json")


def main() -> int:
    options = arguments()
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    in_turns(options.runtimes, options.rounds, lambda name, number: measure(name, number, options), "critest-benchmark")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--containers", type=int, default=30)
    parser.add_argument("--pods", type=int, default=20)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--parallel", type=int, default=1, help="of each, so many at once")
    parser.add_argument("--runtimes", type=lambda text: text.split(","), default=["containerd", "corten"])
    return parser.parse_args()


def measure(name: str, number: int, options: argparse.Namespace) -> Samples:
    """One run of the benchmarks on one runtime, which is there for it alone."""
    runtime = RUNTIMES[name]()
    try:
        leftovers.warm_up(runtime)
        folder = pathlib.Path(os.environ["CORTEN_NODE"], f"benchmark-{name}-{number}")
        folder.mkdir()
        run_suite(runtime.endpoint, folder, options)
        return {operation: values for file in DATA for operation, values in read(folder / file).items()}
    finally:
        runtime.stop()


def run_suite(endpoint: str, folder: pathlib.Path, options: argparse.Namespace) -> None:
    parameters = folder / "parameters.yaml"
    numbers = {"container": options.containers, "pod": options.pods, "image": options.images}
    parameters.write_text(json.dumps({
        key: value for kind, number in numbers.items() for key, value in (
            (f"{kind}sNumber", number), (f"{kind}sNumberParallel", options.parallel),
            (f"{kind}BenchmarkTimeoutSeconds", 60))
    }))
    command = [
        "critest", "-benchmark", "--runtime-endpoint", endpoint, "--benchmarking-params-file", parameters,
        "--benchmarking-output-dir", folder, "--ginkgo.no-color", "--ginkgo.timeout", "20m",
    ]
    with open(os.path.join(log_folder(), folder.name + ".log"), "wb") as log:
        subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False)


def read(file: pathlib.Path) -> Samples:
    """Nanoseconds by operation, as the suite wrote them; nothing where that benchmark did not run."""
    if not file.exists():
        return {}
    data = json.loads(file.read_text())
    columns = zip(*(point["operationsDurationsNs"] for point in data["datapoints"]))
    return {operation: list(values) for operation, values in zip(data["operationsNames"], columns)}


if __name__ == "__main__":
    sys.exit(main())
