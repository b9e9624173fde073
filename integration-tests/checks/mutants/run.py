"""Takes the checks of the release path away one at a time, and looks whether a test notices.

    python3 integration-tests/checks/mutants/run.py                       every mutant's text is there, once
    python3 integration-tests/checks/mutants/run.py run SCRATCH [TARGET]  builds and runs them; hours of one core, or so
        --only TEXTS    mutants whose name, file or crate has one of these texts, which commas part, in their order
        --after NAME    those that come after this one, to go on where a run has ended
        --attacks       the red team's binary decides, instead of the unit tests of the mutant's crate
        --report FILE   where the table of verdicts goes

SCRATCH is a folder that is made anew from the working tree; TARGET is cargo's, beside it if none is given. So that a
crate is compiled once and not once for each mutant, every mutant is compiled in behind a switch, and
`GUILDHALL_MUTANT` picks one of them; without it the tests must pass. The switches are in the scratch copy alone.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from mutants import MUTANTS  # noqa: E402

ROOT = pathlib.Path(__file__).parents[3]
# Looked up once for each place: some of them are in loops.
SWITCHED = """{{
    static ON: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *ON.get_or_init(|| std::env::var_os("GUILDHALL_MUTANT").is_some_and(|m| m == "{name}"))
}}"""
SWITCH = "(if " + SWITCHED + " {{ {to} }} else {{ {of} }})"
# A check that is gone shows in few random cases.
CASES = "400"
LONGEST = 600
# A test that fails, and an attack of the red team that does: the latter are told as soon as they are judged.
FAILED = re.compile(r"test (\S+).* \.\.\. FAILED|^attack fails: (.+)$")
# The test that tells attacks one by one, and those in the red team's binary that are no attacks.
RED_TEAM = "the_red_team_gets_nothing"
HONEST = ["honest::", "least_squares::", "net::", "table::", "adhoc::points_are"]
# How many tests of a crate may fail without a mutant, and are left out.
UNSTEADY = 2


def parts(mutant):
    """The text around the expression that a mutant takes the place of, and the expression."""
    before, of, after = re.fullmatch(r"(.*)«(.*)»(.*)", mutant.find, re.S).groups()
    return before, of, after


def problems(read):
    """What is wrong with the list, by the texts of the files as they are."""
    found, names = [], set()
    for mutant in MUTANTS:
        if mutant.name in names:
            found.append(f"{mutant.name}: the name is taken")
        names.add(mutant.name)
        try:
            text = read(mutant.file)
        except FileNotFoundError:
            found.append(f"{mutant.name}: there is no {mutant.file}")
            continue
        times = text.count("".join(parts(mutant)))
        if times != 1:
            found.append(f"{mutant.name}: its text is {times} times in {mutant.file}, and must be there once")
    return found


def copy(scratch):
    """The working tree, what git ignores left out."""
    if scratch.exists():
        shutil.rmtree(scratch)
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, scratch / name)


def put_switches(scratch, mutants):
    """Texts are found in the files as they are, and replaced from the last to the first."""
    by_file = {}
    for mutant in mutants:
        by_file.setdefault(mutant.file, []).append(mutant)
    for file, mutants in by_file.items():
        path = scratch / file
        text = path.read_text()
        spans = []
        for mutant in mutants:
            before, of, after = parts(mutant)
            at = text.index(before + of + after) + len(before)
            spans.append((at, at + len(of), mutant))
        spans.sort(key=lambda span: span[:2], reverse=True)
        for (start, end, mutant), (_, earlier_end, other) in zip(spans, spans[1:] + [(0, 0, None)]):
            if other is not None and earlier_end > start:
                sys.exit(f"{mutant.name} and {other.name} overlap")
            of = text[start:end]
            text = text[:start] + SWITCH.format(name=mutant.name, to=mutant.to, of=of) + text[end:]
        path.write_text(text)


def left_out(tests):
    """The words that tell a test binary so."""
    return [word for test in tests for word in ("--skip", test)]


class Tests:
    """Test binaries in the scratch copy."""

    def __init__(self, scratch, target):
        self.scratch = scratch
        self.environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "RUST_BACKTRACE": "0", "CARGO_TERM_COLOR": "never"}
        self.environment.setdefault("GUILDHALL_CASES", CASES)
        self.environment.pop("GUILDHALL_MUTANT", None)
        (scratch / "tmp").mkdir()
        self.environment["TMPDIR"] = str(scratch / "tmp")
        # Tests that fail without a mutant, as those do that measure time on a busy machine: they decide nothing.
        self.unsteady = []

    def build(self, package, kind):
        """The binary of a crate's unit tests, or of an integration test by name."""
        which = ["--lib"] if kind == "lib" else ["--test", kind]
        command = ["cargo", "test", "--locked", "-p", f"guildhall-{package}", *which, "--no-run", "--message-format", "json"]
        built = subprocess.run(command, cwd=self.scratch, env=self.environment, capture_output=True, text=True)
        binary = None
        for line in built.stdout.splitlines():
            message = json.loads(line)
            if message["reason"] == "compiler-message" and message["message"]["level"] == "error":
                print(message["message"]["rendered"], file=sys.stderr)
            if message["reason"] == "compiler-artifact" and message.get("executable") and message["profile"]["test"]:
                binary, folder = message["executable"], pathlib.Path(message["manifest_path"]).parent
        if built.returncode or not binary:
            sys.exit(f"cannot build the tests of {package}\n{built.stderr[-2000:]}")
        return binary, folder

    def attack(self, built, name=None):
        """Whether the red team gets nothing, and the first attack that fails: the many that are told apart come first."""
        passes, failed = self.run(built, name, [RED_TEAM, "--exact", "--nocapture"])
        return self.run(built, name, left_out([RED_TEAM, *HONEST])) if passes else (passes, failed)

    def run(self, built, name=None, which=()):
        """Whether the tests pass, and the first that does not."""
        binary, folder = built
        environment = {**self.environment, "CARGO_MANIFEST_DIR": str(folder)}
        if name:
            environment["GUILDHALL_MUTANT"] = name
        # One test that fails is enough, and the quick ones come to their end first.
        process = subprocess.Popen(
            [binary, *which, *left_out(self.unsteady)], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        late = threading.Timer(LONGEST, process.kill)
        late.start()
        failed = None
        for line in process.stdout:
            failed = FAILED.search(line)
            if failed:
                process.kill()
                break
        process.stdout.close()
        status = process.wait()
        in_time = late.is_alive()
        late.cancel()
        if failed:
            return False, failed[1] or failed[2]
        if not in_time:
            return False, "it does not end"
        return status == 0, f"the process ends with {status}"


def verdicts(tests, mutants, attacks, workers):
    """For each mutant, a test that fails."""
    of = lambda mutant: ("integration-tests", "attacks") if attacks else (mutant.package, mutant.tests)
    decide = tests.attack if attacks else tests.run
    groups = {}
    for mutant in mutants:
        groups.setdefault(of(mutant), []).append(mutant)
    for (package, kind), group in groups.items():
        started = time.monotonic()
        built = tests.build(package, kind)
        print(f"== {package} {kind}: built in {time.monotonic() - started:.0f} s", flush=True)
        tests.unsteady = []
        for _ in range(UNSTEADY + 1):
            passes, failed = decide(built)
            if passes:
                break
            print(f"{failed} fails without a mutant", flush=True)
            tests.unsteady.append(failed)
        if not passes:
            sys.exit(f"the tests of {package} fail without a mutant")
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            ran = pool.map(lambda m: (m, decide(built, m.name)), group)
            for mutant, (passes, failed) in ran:
                word = "survived" if passes else f"killed by {failed}"
                print(f"{mutant.name}: {word}", flush=True)
                yield mutant, None if passes else failed


def table(results):
    lines = ["| check taken away | where | a test that fails |", "|---|---|---|"]
    for mutant, failed in results:
        where = mutant.file.removeprefix("crates/").replace("/src/", ": ")
        told = "**none**" if failed is None else f"`{failed}`"
        lines.append(f"| {mutant.disables} | `{where}` | {told} |")
    return "\n".join(lines) + "\n"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("what", nargs="?", choices=["texts", "run"], default="texts")
    arguments.add_argument("scratch", nargs="?", type=pathlib.Path)
    arguments.add_argument("target", nargs="?", type=pathlib.Path)
    arguments.add_argument("--only", default="")
    arguments.add_argument("--after")
    arguments.add_argument("--attacks", action="store_true")
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--report", type=pathlib.Path)
    asked = arguments.parse_args()
    rotten = problems(lambda file: (ROOT / file).read_text())
    if rotten:
        sys.exit("\n".join(rotten))
    if asked.what == "texts":
        print(f"{len(MUTANTS)} mutants, each of whose texts is there once")
        return
    if asked.scratch is None:
        sys.exit("name a folder for the scratch copy")
    scratch = asked.scratch.resolve()
    if scratch == ROOT or scratch in ROOT.parents:
        sys.exit("the scratch copy would take the place of the working tree")
    copy(scratch)
    put_switches(scratch, MUTANTS)
    target = (asked.target or scratch.with_name(scratch.name + "-target")).resolve()
    has = lambda text: [m for m in MUTANTS if text in f"{m.name} {m.file} {m.package}"]
    chosen = list(dict.fromkeys(m for text in asked.only.split(",") for m in has(text)))
    if asked.after:
        chosen = chosen[[m.name for m in chosen].index(asked.after) + 1 :]
    # One at a time over the live city, which wants all cores.
    results = list(verdicts(Tests(scratch, target), chosen, asked.attacks, 1 if asked.attacks else asked.workers))
    survived = [m.name for m, failed in results if failed is None]
    print(f"{len(results)} mutants, {len(survived)} survived: {', '.join(survived)}")
    if asked.report:
        asked.report.write_text(table(results))
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
