#!/usr/bin/env python3
"""Count test results: prints "PASSED FAILED SKIPPED" for the files given, and names the failures on stderr.

Usage: count.py FILE...      (pytest's JUnit XML, or meson's testlog.json)

A meson test is a program. Where it is a cmocka program its own counts are taken; another program is one test.
"""
import json
import re
import sys
import xml.etree.ElementTree as xml


def count_junit(path):
    passed = failed = skipped = 0
    for case in xml.parse(path).getroot().iter("testcase"):
        outcomes = {child.tag for child in case}
        if outcomes & {"failure", "error"}:
            failed += 1
            print(f"failed: {case.get('classname')}::{case.get('name')}", file=sys.stderr)
        elif "skipped" in outcomes:
            skipped += 1
            reason = next(c.get("message") for c in case if c.tag == "skipped")
            print(f"skipped: {case.get('classname')}::{case.get('name')}: {reason}", file=sys.stderr)
        else:
            passed += 1
    return passed, failed, skipped


def count_program(result):
    """One line of testlog.json."""
    out = (result.get("stdout") or "") + (result.get("stderr") or "")
    ended_well = result["result"] in ("OK", "EXPECTEDFAIL")
    numbers = {}
    for word in ("PASSED", "FAILED", "SKIPPED"):
        numbers[word] = sum(int(n) for n in re.findall(rf"^\[\s*{word}\s*\] (\d+) test\(s\)", out, re.M))
    if result["result"] == "SKIP":
        print(f"skipped: {result['name']}", file=sys.stderr)
        return 0, 0, 1
    if not any(numbers.values()):
        numbers = {"PASSED": int(ended_well), "FAILED": int(not ended_well), "SKIPPED": 0}
    elif not ended_well and numbers["FAILED"] == 0:
        numbers["FAILED"] = 1  # a crash, a sanitizer's report, a time limit
    if numbers["FAILED"]:
        print(f"failed: {result['name']} ({result['result']})\n{out[-3000:]}", file=sys.stderr)
    return numbers["PASSED"], numbers["FAILED"], numbers["SKIPPED"]


def count_meson(path):
    totals = [0, 0, 0]
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            for i, n in enumerate(count_program(json.loads(line))):
                totals[i] += n
    return totals


def main():
    totals = [0, 0, 0]
    for path in sys.argv[1:]:
        for i, n in enumerate(count_junit(path) if path.endswith(".xml") else count_meson(path)):
            totals[i] += n
    print(*totals)


main()
