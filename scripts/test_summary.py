#!/usr/bin/env python3
"""Adds up the results of a ctest run: prints what was skipped and failed, then one line of counts.

    test_summary.py RESULTS_DIR

RESULTS_DIR holds ctest.xml (ctest --output-junit) and, for each GoogleTest binary that ran to its
end, NAME.json. A binary that died, hung or failed after its last test counts as one more failure; a
ctest entry that is no GoogleTest binary counts as one test. Exits 1 where anything failed or
nothing ran.
"""

import json
import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def count_gtest(path):
    """(passed, failed names, skipped names) of one binary."""
    passed, failed, skipped = 0, [], []
    for suite in json.loads(path.read_text())["testsuites"]:
        for test in suite["testsuite"]:
            name = f"{suite['name']}.{test['name']}"
            if test.get("failures"):
                failed.append(name)
            elif test.get("result") == "SKIPPED":
                skipped.append(name)
            elif test.get("status") == "RUN":
                passed += 1
            else:  # disabled
                skipped.append(name)
    return passed, failed, skipped


def main():
    results = pathlib.Path(sys.argv[1])
    passed, failed, skipped = 0, [], []
    for case in ElementTree.parse(results / "ctest.xml").getroot().iter("testcase"):
        name = case.get("name")
        case_failed = case.get("status") == "fail" or case.find("failure") is not None
        report = results / f"{name}.json"
        if report.exists():
            binary_passed, binary_failed, binary_skipped = count_gtest(report)
            passed += binary_passed
            failed += [f"{name}: {test}" for test in binary_failed]
            skipped += [f"{name}: {test}" for test in binary_skipped]
            if case_failed and not binary_failed:
                failed.append(f"{name}: ended badly after its tests")
        elif case_failed:
            failed.append(f"{name}: ended before it could report")
        elif case.get("status") == "run":
            passed += 1
        else:
            skipped.append(name)
    for name in skipped:
        print(f"skipped  {name}")
    for name in failed:
        print(f"FAILED   {name}")
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
