#!/usr/bin/env python3
"""A job store of a released server, opened by this one (tests/fixtures/README.md).

    store_fixture_test.py --server BINARY --client BINARY --fixture store-0.1.0

What has ended is as it was: results, errors, history. What waited runs, and gives what it would
have given then: the same weights to the bit on the processor that the fixture was made on, and on
others the same ranks and nearly the same perplexities. Needs nothing but Python's standard library.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "reference"))
import make_store_fixture as fixture  # noqa: E402
from service_process import Service, plain, processor  # noqa: E402

ARGS = None
TOLERANCE = 1e-3  # relative, of figures that another processor has computed


def differences(expected, found, tolerance=0.0, where=""):
    """What of `expected` is not so in `found`, which may have members that are new since."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [line for key, value in expected.items()
                for line in differences(value, found.get(key), tolerance, f"{where}.{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [line for i, value in enumerate(expected)
                for line in differences(value, found[i], tolerance, f"{where}[{i}]")]
    if isinstance(expected, float) and isinstance(found, (int, float)):
        same = abs(found - expected) <= tolerance * abs(expected)
    else:
        same = expected == found
    return [] if same else [f"{where}: {found!r} is not {expected!r}"]


def without_last_bits(case, outcome):
    """What another processor must give too."""
    def reduced(value):
        # A task's metrics are shares of a few questions, and a verdict names perplexities: a bit
        # that differs can move both at once, not by little.
        dropped = {"weights", "metrics", "regressions"}
        if case == fixture.SAMPLED:  # another sample, other weights
            dropped.add("perplexity")
        if isinstance(value, dict):
            return {key: reduced(entry) for key, entry in value.items() if key not in dropped}
        return [reduced(entry) for entry in value] if isinstance(value, list) else value
    return reduced(outcome)


class StoreFixtureTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory_of_fixture = os.path.join(HERE, "..", "fixtures", ARGS.fixture)
        with open(f"{directory_of_fixture}/expected.json") as file:
            cls.expected = json.load(file)
        cls.same_processor = processor() == cls.expected["processor"]
        # All that the servers do is done here, so that the inputs are there for no longer.
        with contextlib.ExitStack() as stack:
            stack.enter_context(fixture.inputs())
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="svdllm-store-"))
            cls.inputs = fixture.input_digests()
            shutil.copy(f"{directory_of_fixture}/jobs.db", directory)
            binaries = [ARGS.server, ARGS.client, directory, *fixture.SERVER_FLAGS]
            with Service(*binaries, "--role=api") as service:  # nothing runs
                cls.opened = {case: fixture.stored(service, job)
                              for case, job in fixture.all_jobs(service).items()}
            waiting = [case for case, job in cls.opened.items() if job["state"] == "QUEUED"]
            with Service(*binaries) as service:
                service.await_all(timeout=240)
                jobs = fixture.all_jobs(service)
                cls.kept = {case: fixture.stored(service, jobs[case])
                            for case in jobs if case not in waiting}
                cls.outcomes = {case: cls.outcome(service, jobs[case]) for case in waiting}

    @staticmethod
    def outcome(service, job):
        if plain(job["state"]) == "SUCCEEDED":
            return fixture.outcome(service, job)
        return {"state": plain(job["state"]), "error": job.get("error")}

    def assert_all(self, expected, found, tolerance=0.0):
        lines = differences(expected, found, tolerance)
        if lines:
            self.fail("\n".join(lines[:20]))

    def expected_jobs(self, *states):
        jobs = {case: job for case, job in self.expected["jobs"].items() if job["state"] in states}
        self.assertTrue(jobs)
        return jobs

    def test_inputs_are_those_of_the_fixture(self):
        self.assertEqual(self.inputs, self.expected["inputs"])

    def test_every_job_is_there(self):
        self.assertEqual(sorted(self.opened), sorted(self.expected["jobs"]))

    def test_finished_jobs_have_their_results(self):
        for case, job in self.expected_jobs("SUCCEEDED").items():
            with self.subTest(case):
                self.assert_all(job, self.opened[case])
                self.assert_all(job, self.kept[case])  # behind jobs that ran since, too

    def test_others_that_have_ended_say_why(self):
        for case, job in self.expected_jobs("FAILED", "CANCELLED").items():
            with self.subTest(case):
                self.assert_all(job, self.opened[case])
                self.assert_all(job, self.kept[case])

    def test_queued_jobs_wait_with_their_requests(self):
        for case, job in self.expected_jobs("QUEUED").items():
            with self.subTest(case):
                self.assert_all(job, self.opened[case])

    def test_queued_jobs_run_as_they_were_meant(self):
        if not self.same_processor:
            print(f"made on {self.expected['processor']}, this is {processor()}: "
                  "weights are not compared", file=sys.stderr)
        for case, expected in self.expected["outcomes"].items():
            with self.subTest(case):
                found = self.outcomes.get(case)
                if self.same_processor:
                    # Weights to the last bit, as their digests are compared; a perplexity as far as
                    # the order of its sums goes.
                    self.assert_all(expected, found, 1e-12)
                else:
                    self.assert_all(without_last_bits(case, expected), found, TOLERANCE)

    def test_queued_compressions_record_what_was_asked(self):
        for case, job in self.expected_jobs("QUEUED").items():
            asked = job["request"]
            if job["kind"] != "COMPRESS_MODEL":
                continue
            with self.subTest(case):
                self.assertEqual(self.outcomes[case]["state"], "SUCCEEDED")
                artifacts = self.outcomes[case]["result"]["artifacts"]
                self.assertEqual([a["keep_ratio"] for a in artifacts], asked["keep_ratios"])
                for artifact in artifacts:
                    report, config = artifact["report"], artifact["config"]
                    for name in ("method", "allocation", "encoding", "output_format"):
                        self.assertEqual(report[name], asked[name].lower())
                    self.assertEqual(report["keep_ratio"], artifact["keep_ratio"])
                    if asked["output_format"] == "DENSE":
                        self.assertEqual(config, {"model_type": "llama"})
                    else:
                        self.assertEqual(config, {
                            "model_type": "lowrank_llama", "method": asked["method"].lower(),
                            "encoding": asked["encoding"].lower(),
                            "keep_ratio": artifact["keep_ratio"]})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    parser.add_argument("--fixture", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
