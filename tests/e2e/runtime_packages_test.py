"""docker/runtime_packages names the packages that the image has to install."""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "docker" / "runtime_packages"
BINARIES = []


def run(*files):
    return subprocess.run([SCRIPT, *files], capture_output=True, text=True, check=False)


class RuntimePackagesTest(unittest.TestCase):
    def test_every_library_is_in_one_of_them(self):
        result = run(*BINARIES)
        self.assertEqual(result.returncode, 0, result.stderr)
        packages = result.stdout.split()
        self.assertEqual(packages, sorted(set(packages)))
        for pattern in [r"libgrpc\+\+1.*", r"libopenblas0-openmp", r"libsentencepiece0", r"libsqlite3-0", r"libgomp1"]:
            self.assertTrue(any(re.fullmatch(pattern, name) for name in packages), f"{pattern}: {packages}")
        installed = set()
        for name in packages:
            listed = subprocess.run(["dpkg", "-L", name], capture_output=True, text=True, check=True).stdout
            installed.update(pathlib.Path(line).name for line in listed.splitlines())
        for binary in BINARIES:
            needed = subprocess.run(["objdump", "-p", binary], capture_output=True, text=True, check=True).stdout
            for library in re.findall(r"NEEDED\s+(\S+)", needed):
                self.assertIn(library, installed)

    def test_a_library_that_is_missing_is_an_error(self):
        with tempfile.TemporaryDirectory() as folder:
            library, program = f"{folder}/libgone.so", f"{folder}/program"
            for command in [["cc", "-shared", "-o", library, "-x", "c", "/dev/null"],
                            ["cc", "-shared", "-o", program, "-x", "c", "/dev/null", "-x", "none", "-Wl,--no-as-needed", library]]:
                subprocess.run(command, check=True)
            result = run(program)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn("belongs to no package", result.stderr)
            pathlib.Path(library).unlink()
            result = run(program)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn("libgone.so", result.stderr)
            self.assertEqual(result.stdout, "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("binaries", nargs="+")
    BINARIES = parser.parse_args().binaries
    unittest.main(argv=sys.argv[:1])
